/* interrupt.h: has somebody asked a connection to stop? For work that SQLite does not do itself.
 */
#ifndef DAX_INTERRUPT_H
#define DAX_INTERRUPT_H

#include <stdbool.h>

#include "vfs/sqlite.h"

struct interrupt {
    sqlite3 *db;         /* may be NULL: nobody asks */
    sqlite3_stmt *probe; /* owned, see interrupt_end */
};

/* sqlite3_interrupt was called, or the progress handler says so (which it is asked here). Call with
 * db's mutex held. */
bool interrupt_asked(struct interrupt *i);
void interrupt_end(struct interrupt *i);

#endif
