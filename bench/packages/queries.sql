-- A few questions to the package index. Made for the sqlite3 shell: .print writes the headings.
.mode column
.headers on

.print
.print The largest package, unpacked, of the ten sections with the largest ones:
SELECT section, package, version, printf('%,d', installed_kib / 1024) AS mib
FROM (SELECT section.name AS section, name.name AS package, package.version, installed_kib,
             row_number() OVER (PARTITION BY section_id
                                ORDER BY installed_kib DESC, name.name, version) AS place
      FROM package JOIN name ON name.id = name_id JOIN section ON section.id = section_id)
WHERE place = 1 ORDER BY installed_kib DESC, package LIMIT 10;

.print
.print What most packages depend on (as the first choice of a Depends):
SELECT name.name AS target, count(DISTINCT package_id) AS dependents
FROM dependency JOIN name ON name.id = target_id
WHERE kind_id = (SELECT id FROM dependency_kind WHERE name = 'Depends') AND alternative = 1
GROUP BY target_id ORDER BY dependents DESC, target LIMIT 10;

.print
.print Packages per section, the twelve largest:
SELECT section.name AS section, count(*) AS packages,
       printf('%.1f', total(installed_kib) / 1048576) AS gib,
       round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent
FROM package JOIN section ON section.id = section_id
GROUP BY section_id ORDER BY packages DESC, section LIMIT 12;

.print
.print Maintainers of the most packages:
SELECT maintainer.name AS maintainer, count(*) AS packages
FROM package JOIN maintainer ON maintainer.id = maintainer_id
GROUP BY maintainer_id ORDER BY packages DESC, maintainer LIMIT 5;

.print
.print Full-text search for (embedded NEAR database) OR (persistent memory), best first:
SELECT name.name AS package, package.version, package.summary
FROM package_fts JOIN package ON package.id = package_fts.rowid JOIN name ON name.id = name_id
WHERE package_fts MATCH 'NEAR(embedded database) OR "persistent memory"'
ORDER BY bm25(package_fts, 2.0, 1.0, 0.5), package, version LIMIT 10;

.print
.print Everything that sqlite3 needs in the end, by how many steps away (first choices only):
WITH RECURSIVE
    needs(package_id, target_id) AS MATERIALIZED (
        SELECT package_id, target_id FROM dependency
        WHERE alternative = 1 AND kind_id IN
            (SELECT id FROM dependency_kind WHERE name IN ('Depends', 'Pre-Depends'))),
    closure(name_id, steps) AS (
        SELECT id, 0 FROM name WHERE name = 'sqlite3'
        UNION
        SELECT needs.target_id, closure.steps + 1
        FROM closure JOIN package ON package.name_id = closure.name_id
             JOIN needs ON needs.package_id = package.id
        WHERE closure.steps < 12)
SELECT steps, count(*) AS packages, group_concat(name, ' ') AS names
FROM (SELECT name.name AS name, min(steps) AS steps FROM closure JOIN name ON name.id = name_id
      GROUP BY name_id ORDER BY name)
GROUP BY steps ORDER BY steps;

.print
.print Dependencies that nothing in the index can satisfy, the names asked for most often:
SELECT name.name AS missing, count(DISTINCT package_id) AS packages
FROM dependency JOIN name ON name.id = target_id
WHERE kind_id IN (SELECT id FROM dependency_kind
                  WHERE name IN ('Depends', 'Recommends', 'Suggests'))
  AND NOT EXISTS (SELECT 1 FROM package WHERE package.name_id = target_id)
  AND NOT EXISTS (SELECT 1 FROM provided WHERE provided.name_id = target_id)
GROUP BY target_id ORDER BY packages DESC, missing LIMIT 5;
