/* vfs.h: what the files of vfs/ share.
 */
#ifndef DAX_VFS_H
#define DAX_VFS_H

#include <stdbool.h>

#include "engine/engine.h"
#include "vfs/sqlite.h"

#define DAX_VFS_NAME "dax"

/* File control of ours: arg is a struct conn **. Answered by main database files of this VFS only;
 * everybody else says SQLITE_NOTFOUND. */
#define DAX_FCNTL_CONN 0x64617801

/* The same, for vfs_checkpoint alone. */
#define DAX_FCNTL_CHECKPOINT 0x64617802

/* arg is a struct owner_cache **: owner_map.h. */
#define DAX_FCNTL_OWNERS 0x64617803

/* arg is a struct file_hook *: file.h. Copied. */
#define DAX_FCNTL_HOOK 0x64617804

/* arg is a struct scrub **: scrub.h. */
#define DAX_FCNTL_SCRUB 0x64617805

/* arg is not used: give media errors their names now. media_names.h */
#define DAX_FCNTL_NAME_MEDIA 0x64617806

/* Register the VFS with SQLite, once per process; again: only makes it the default where asked.
 * SQLITE_OK, SQLITE_NOMEM, SQLITE_ERROR without a default VFS to wrap. vfs.c */
int vfs_install(bool make_default);

/* The VFS that everything else goes to (the default one when ours was registered). vfs.c */
sqlite3_vfs *vfs_real(void);

/* SQLite's code for an engine code. vfs.c */
int vfs_code(dax_rc rc);

/* Engine connection behind database `schema` ("main", an ATTACH name) of db, or NULL if that is not
 * a file of this VFS. Call with db's mutex held (as in an SQL function). vfs.c */
struct conn *vfs_conn_of(sqlite3 *db, const char *schema);

/* conn_checkpoint on the database behind `schema`, waiting as long as db's busy handler says
 * (PASSIVE: not at all). DAX_MISUSE if it is not a file of this VFS. db's mutex as above.
 * file_control.c */
DAX_CHECKED dax_rc vfs_checkpoint(sqlite3 *db, const char *schema, struct conn *c,
                                  enum checkpoint_mode mode, struct checkpoint_result *result_out,
                                  struct dax_err *err);

/* SQL functions dax_version, dax_status, dax_checkpoint. functions.c */
int functions_register(sqlite3 *db);

/* SQL functions dax_owner, dax_owner_sqlite. owner_functions.c */
int owner_functions_register(sqlite3 *db);

/* SQL function dax_repair. repair.c */
int repair_functions_register(sqlite3 *db);

/* SQL function dax_scrub. scrub.c */
int scrub_functions_register(sqlite3 *db);

/* Eponymous table dax_pages. pages_table.c */
int pages_table_register(sqlite3 *db);

/* Eponymous table dax_errors. errors_table.c */
int errors_table_register(sqlite3 *db);

/* Runs for every connection opened from now on: registers functions and tables; sets mmap_size where
 * the main database is of this VFS. autoload.c */
int autoload_install(void);
int autoload_connection(sqlite3 *db, char **err_out, const struct sqlite3_api_routines *api);

/* Everything above for the process: vfs_install + autoload_install. register.c */
int register_all(bool make_default);

#endif
