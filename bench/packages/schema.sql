-- Debian's package index as related tables. Foreign keys are meant to be ON.

-- One fetched `Packages` list. complete: all of its packages are in the database.
CREATE TABLE IF NOT EXISTS list(
    id           INTEGER PRIMARY KEY,
    file         TEXT NOT NULL UNIQUE,
    site         TEXT NOT NULL,
    suite        TEXT NOT NULL,
    component    TEXT NOT NULL,
    architecture TEXT NOT NULL,
    bytes        INTEGER NOT NULL,
    sha256       TEXT NOT NULL,
    complete     INTEGER NOT NULL DEFAULT 0 CHECK (complete IN (0, 1))
);

CREATE TABLE IF NOT EXISTS maintainer(
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    address TEXT NOT NULL,
    UNIQUE (name, address)
);

CREATE TABLE IF NOT EXISTS section(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS priority(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS tag(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- Every name that a package has, provides or depends on: some belong to no package.
CREATE TABLE IF NOT EXISTS name(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE IF NOT EXISTS package(
    id             INTEGER PRIMARY KEY,
    name_id        INTEGER NOT NULL REFERENCES name(id),
    version        TEXT NOT NULL,
    architecture   TEXT NOT NULL,
    source         TEXT NOT NULL,
    maintainer_id  INTEGER NOT NULL REFERENCES maintainer(id),
    section_id     INTEGER NOT NULL REFERENCES section(id),
    priority_id    INTEGER NOT NULL REFERENCES priority(id),
    essential      INTEGER NOT NULL CHECK (essential IN (0, 1)),
    multi_arch     TEXT,
    installed_kib  INTEGER,
    download_bytes INTEGER,
    filename       TEXT,
    sha256         BLOB CHECK (sha256 IS NULL OR length(sha256) = 32),
    homepage       TEXT,
    summary        TEXT NOT NULL,
    description    TEXT,
    UNIQUE (name_id, version, architecture)
);

-- Which lists offer which package: the same one may stand in several.
CREATE TABLE IF NOT EXISTS availability(
    list_id    INTEGER NOT NULL REFERENCES list(id) ON DELETE CASCADE,
    package_id INTEGER NOT NULL REFERENCES package(id) ON DELETE CASCADE,
    PRIMARY KEY (list_id, package_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS dependency_kind(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- `Depends: a (>= 1) | b, c` is group 1 with alternatives 1 and 2, and group 2 with alternative 1.
CREATE TABLE IF NOT EXISTS dependency(
    package_id   INTEGER NOT NULL REFERENCES package(id) ON DELETE CASCADE,
    kind_id      INTEGER NOT NULL REFERENCES dependency_kind(id),
    group_no     INTEGER NOT NULL,
    alternative  INTEGER NOT NULL,
    target_id    INTEGER NOT NULL REFERENCES name(id),
    architecture TEXT,
    relation     TEXT CHECK (relation IN ('<<', '<=', '=', '>=', '>>')),
    version      TEXT,
    PRIMARY KEY (package_id, kind_id, group_no, alternative),
    CHECK ((relation IS NULL) = (version IS NULL))
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS provided(
    package_id INTEGER NOT NULL REFERENCES package(id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    name_id    INTEGER NOT NULL REFERENCES name(id),
    version    TEXT,
    PRIMARY KEY (package_id, position)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS package_tag(
    package_id INTEGER NOT NULL REFERENCES package(id) ON DELETE CASCADE,
    tag_id     INTEGER NOT NULL REFERENCES tag(id),
    PRIMARY KEY (package_id, tag_id)
) WITHOUT ROWID;

-- Full-text index over names and descriptions. The text stays in package and name only; the
-- triggers keep the index in step with them.
CREATE VIEW IF NOT EXISTS package_text AS
SELECT package.id AS id, name.name AS name, package.summary AS summary,
       package.description AS description
FROM package JOIN name ON name.id = package.name_id;

CREATE VIRTUAL TABLE IF NOT EXISTS package_fts USING fts5(
    name, summary, description,
    content = 'package_text', content_rowid = 'id', tokenize = 'porter unicode61'
);

CREATE TRIGGER IF NOT EXISTS package_fts_insert AFTER INSERT ON package BEGIN
    INSERT INTO package_fts(rowid, name, summary, description)
    VALUES (new.id, (SELECT name FROM name WHERE id = new.name_id), new.summary, new.description);
END;
CREATE TRIGGER IF NOT EXISTS package_fts_delete AFTER DELETE ON package BEGIN
    INSERT INTO package_fts(package_fts, rowid, name, summary, description)
    VALUES ('delete', old.id, (SELECT name FROM name WHERE id = old.name_id), old.summary,
            old.description);
END;
CREATE TRIGGER IF NOT EXISTS package_fts_update
AFTER UPDATE OF name_id, summary, description ON package BEGIN
    INSERT INTO package_fts(package_fts, rowid, name, summary, description)
    VALUES ('delete', old.id, (SELECT name FROM name WHERE id = old.name_id), old.summary,
            old.description);
    INSERT INTO package_fts(rowid, name, summary, description)
    VALUES (new.id, (SELECT name FROM name WHERE id = new.name_id), new.summary, new.description);
END;
