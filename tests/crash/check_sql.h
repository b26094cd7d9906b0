/* check_sql.h: what is checked on copies, by SQLite and by libpmemobj.
 */
#ifndef DAX_CRASH_CHECK_SQL_H
#define DAX_CRASH_CHECK_SQL_H

#include "check.h"

/* Copies of the image: the pool is checked and opened for real; SQLite opens the database through
 * the VFS, checks it, writes to it and closes it; then stock SQLite does. */
bool check_copy(const struct requirement *r, char *what, size_t bytes);

/* In check.c. */
bool check_content(const struct requirement *r, const uint8_t *got, uint64_t size,
                   const struct golden **found, char *what, size_t bytes);

#endif
