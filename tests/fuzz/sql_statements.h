/* sql_statements.h: SQL out of bytes.
 */
#ifndef TESTS_FUZZ_SQL_STATEMENTS_H
#define TESTS_FUZZ_SQL_STATEMENTS_H

#include "tests/fuzz/fuzz.h"

#define SQL_TEXT 512

/* Statement kinds, for seeds. Those up to SQL_COMMON mean the same to both sides. */
enum sql_kind {
    SQL_BEGIN,
    SQL_BEGIN_IMMEDIATE,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SAVEPOINT,
    SQL_RELEASE,
    SQL_ROLLBACK_TO,
    SQL_INSERT,
    SQL_INSERT_LARGE,
    SQL_INSERT_MANY,
    SQL_UPDATE,
    SQL_UPDATE_MANY,
    SQL_DELETE,
    SQL_DELETE_MANY,
    SQL_REPLACE,
    SQL_COPY_TABLE,
    SQL_CREATE_TABLE,
    SQL_DROP_TABLE,
    SQL_CREATE_INDEX,
    SQL_DROP_INDEX,
    SQL_ALTER,
    SQL_CREATE_TRIGGER,
    SQL_SELECT,
    SQL_SELECT_SUM,
    SQL_VACUUM,
    SQL_AUTO_VACUUM,
    SQL_INCREMENTAL_VACUUM,
    SQL_PAGE_SIZE,
    SQL_CACHE_SIZE,
    SQL_SETTING,
    SQL_VERSION,
    SQL_INTEGRITY,
    SQL_ATTACH, /* made by the caller, who knows the names */
    SQL_DETACH,
    SQL_COMMON
};

/* Not for SQL_ATTACH. */
void sql_make(char out[SQL_TEXT], enum sql_kind kind, struct input *in);

#endif
