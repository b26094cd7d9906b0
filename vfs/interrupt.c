/* interrupt.c: has somebody asked a connection to stop?
 *
 * SQLite before 3.41 has no call that asks whether it was interrupted, nor any that runs the progress
 * handler: a statement that counts does both. It needs the schema (or an authorizer's leave), though,
 * and what asks here runs when the schema cannot be read, too: then the simplest statement asks for
 * the interrupt alone.
 */
#include "vfs/interrupt.h"

#include <stddef.h>

bool interrupt_asked(struct interrupt *i)
{
    static const char *const probes[] = {
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)"
        " SELECT count(*) FROM n",
        "SELECT 1",
    };
    int rc = SQLITE_OK;
    for (int k = 0; k < 2 && i->db && !i->probe && rc != SQLITE_INTERRUPT; k++)
        rc = sqlite3_prepare_v2(i->db, probes[k], -1, &i->probe, NULL);
    if (i->probe) {
        rc = sqlite3_step(i->probe);
        sqlite3_reset(i->probe);
    }
    return rc == SQLITE_INTERRUPT;
}

void interrupt_end(struct interrupt *i)
{
    sqlite3_finalize(i->probe);
    i->probe = NULL;
}
