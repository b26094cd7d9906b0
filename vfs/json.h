/* json.h: a writer for the JSON that the SQL functions return.
 *
 * Appends to an sqlite3_str, which keeps its own out-of-memory state, so nothing here fails.
 */
#ifndef DAX_JSON_H
#define DAX_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/sqlite.h"

struct json {
    sqlite3_str *out;
    bool first; /* no member written yet in the object or array that is open */
};

/* name NULL: an element of an array, or the outermost value. */
void json_object_open(struct json *j, const char *name);
void json_object_close(struct json *j);
void json_array_open(struct json *j, const char *name);
void json_array_close(struct json *j);

/* text is bytes (a path, say): what is not UTF-8 appears as U+FFFD. NULL: null. */
void json_text(struct json *j, const char *name, const char *text);
/* As json_text, "" is null. */
void json_text_or_null(struct json *j, const char *name, const char *text);
void json_number(struct json *j, const char *name, uint64_t value);
/* As json_number, 0 is null. */
void json_number_or_null(struct json *j, const char *name, uint64_t value);
void json_bool(struct json *j, const char *name, bool value);
void json_null(struct json *j, const char *name);

/* Hand the text over to SQLite as the function's result; j is finished. */
void json_result(sqlite3_context *ctx, struct json *j);

#endif
