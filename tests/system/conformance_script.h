/* conformance_script.h: a seeded script of SQL statements and directives of all kinds.
 *
 * A line is "C TEXT": connection number, then SQL or a directive. In the text, @T{name} stands for
 * the quoted URI of a file of the VFS under test, @S{name} for one of SQLite's own VFS.
 *
 *   .bind BYTES SEED SQL                 run SQL with ?1 a blob of so many pseudo-random bytes
 *   .blob TABLE COLUMN ROWID OFFSET LEN WRITE SEED    incremental blob I/O
 *   .cursor N SQL                        start a query that stays open (N: 0 - 3)
 *   .step N ROWS                         so many more rows of it
 *   .close N                             end it
 *   .reopen                              close the connection and open it again
 *   .backup_out NAME VFS PAGESIZE        back main up into a file; VFS is T or S
 *   .backup_in NAME VFS                  and main from it
 */
#ifndef TESTS_SYSTEM_CONFORMANCE_SCRIPT_H
#define TESTS_SYSTEM_CONFORMANCE_SCRIPT_H

#include "tests/system/harness.h"

struct script {
    char **line;
    size_t count;
    size_t room;
};

struct script_options {
    size_t statements; /* at least */
    unsigned page_size;
    int auto_vacuum; /* 0 none, 1 full, 2 incremental */
    bool resize;     /* PRAGMA page_size + VACUUM along the way */
};

#define SCRIPT_CONNECTIONS 3
#define SCRIPT_CURSORS 4

void script_generate(struct script *s, const struct script_options *o, uint64_t seed);
void script_free(struct script *s);

#endif
