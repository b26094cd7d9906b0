-- What the engine says about the database that is open. Made for the sqlite3 shell.
.headers off
.mode list

.print
.print dax_status():
WITH
    status(s) AS MATERIALIZED (SELECT dax_status()),
    part(s, bytes, log, counters) AS (
        SELECT s, s -> 'bytes', s -> 'log', s -> 'counters' FROM status),
    line(place, what, value) AS (
        SELECT 1, 'database', s ->> 'path' FROM part
        UNION ALL
        SELECT 2, 'log', coalesce(s ->> 'sidecar', 'none: nothing was written') FROM part
        UNION ALL
        SELECT 3, 'persistence', s ->> 'mode' FROM part
        UNION ALL
        SELECT 4, 'because', s ->> 'why' FROM part
        UNION ALL
        SELECT 5, 'database size', printf('%,d bytes', bytes ->> 'database') FROM part
        UNION ALL
        SELECT 6, 'file size', printf('%,d bytes', bytes ->> 'file') FROM part
        UNION ALL
        SELECT 7, 'log in use', printf('%,d of %,d bytes', log ->> 'live', log ->> 'ring')
        FROM part WHERE s ->> 'sidecar' IS NOT NULL
        UNION ALL
        SELECT 8, 'zero-copy page reads',
               printf('%,d', (counters ->> 'reads_pinned_base') +
                             (counters ->> 'reads_pinned_frame'))
        FROM part
        UNION ALL
        SELECT 9, 'copied page reads', printf('%,d', counters ->> 'reads_copied') FROM part
    )
SELECT printf('%-22s%s', what, value) FROM line ORDER BY place;
