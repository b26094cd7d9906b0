/* walker_schema.c: from rows of sqlite_schema to objects: what they are called, where their trees
 * begin, and which virtual table a shadow table serves.
 *
 * A module says which tables are its shadows through a method that only SQLite can reach
 * (xShadowName). So they are known by their names: of table NAME, the modules fts3, fts4, fts5,
 * rtree, rtree_i32 and geopoly have NAME_SUFFIX with a suffix of their lists below; of any other
 * module, every table NAME_... is taken for a shadow. The longest NAME wins.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vfs/walker_state.h"

/* Suffixes of the modules that SQLite's own library brings along. */
static const struct {
    const char *module;
    const char *suffixes; /* each between two spaces */
} shadow_names[] = {
    {"fts3", " content segments segdir docsize stat "},
    {"fts4", " content segments segdir docsize stat "},
    {"fts5", " data idx content docsize config "},
    {"rtree", " node rowid parent "},
    {"rtree_i32", " node rowid parent "},
    {"geopoly", " node rowid parent "},
};

void walk_object_drop(struct walk_object *object)
{
    free(object->name);
    free(object->table);
    free(object->module);
}

/* Takes the texts over, also where it fails. */
bool walk_object_add(struct walk *w, const struct walk_object *object)
{
    struct walk_map *m = w->map;
    struct walk_object copy = *object;
    bool ok = copy.name && copy.table;
    if (ok && m->object_count == w->object_room) {
        uint32_t room = w->object_room ? w->object_room * 2 : 16;
        struct walk_object *grown = realloc(m->objects, (size_t)room * sizeof *grown);
        ok = grown != NULL;
        if (ok) {
            m->objects = grown;
            w->object_room = room;
        }
    }
    if (!ok) {
        walk_object_drop(&copy);
        w->failed = WALK_NOMEM;
        return false;
    }
    m->objects[m->object_count++] = copy;
    return true;
}

/* --- CREATE VIRTUAL TABLE name USING module ----------------------------------------------------- */

static const char *sql_skip_space(const char *s)
{
    for (;;) {
        const char *end;
        if (*s && strchr(" \t\r\n\f", *s))
            s++;
        else if (s[0] == '-' && s[1] == '-' && (end = strchr(s, '\n')))
            s = end + 1;
        else if (s[0] == '/' && s[1] == '*' && (end = strstr(s + 2, "*/")))
            s = end + 2;
        else
            return s;
    }
}

static bool sql_is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || (unsigned char)c >= 0x80;
}

/* Past the word or quoted name at s; *from and *length: its inside, doubled quotes as they are. */
static const char *sql_token(const char *s, const char **from, size_t *length)
{
    char close = *s == '[' ? ']' : *s;
    if (close == ']' || close == '"' || close == '`' || close == '\'') {
        *from = ++s;
        while (*s && (*s != close || (close != ']' && s[1] == close)))
            s += *s == close ? 2 : 1;
        *length = (size_t)(s - *from);
        return *s ? s + 1 : s;
    }
    *from = s;
    while (sql_is_word(*s))
        s++;
    *length = (size_t)(s - *from);
    return s;
}

/* Expects the word; NULL: it is not there. */
static const char *sql_word(const char *s, const char *word)
{
    const char *from;
    size_t length;
    if (!s)
        return NULL;
    s = sql_skip_space(s);
    const char *end = sql_token(s, &from, &length);
    return from == s && length == strlen(word) && strncasecmp(from, word, length) == 0 ? end : NULL;
}

/* Name of the module, malloc'ed; "" if the text is not understood. NULL: no memory. */
static char *sql_module(const char *sql)
{
    const char *from = "";
    size_t length = 0;
    const char *s = sql_word(sql_word(sql_word(sql, "create"), "virtual"), "table");
    if (s)
        s = sql_word(sql_token(sql_skip_space(s), &from, &length), "using");
    length = 0;
    if (s)
        (void)sql_token(sql_skip_space(s), &from, &length);
    return strndup(from, length);
}

/* --- rows --------------------------------------------------------------------------------------- */

static bool schema_is(const struct walk *w, const struct dbformat_value *v, const char *word)
{
    char *text = dbformat_text(v, w->map->header.encoding);
    bool is = text && strcasecmp(text, word) == 0;
    free(text);
    return is;
}

void walk_schema_row(struct walk *w, uint32_t page, uint32_t have)
{
    struct dbformat_value v[SCHEMA_COLUMNS];
    enum dbformat_encoding encoding = w->map->header.encoding;
    if (!dbformat_record(w->row_buf, have, v, SCHEMA_COLUMNS) || !v[SCHEMA_NAME].whole ||
        !v[SCHEMA_TABLE].whole || !v[SCHEMA_ROOT].whole) {
        if (!w->weak)
            walk_trouble(w, page, TROUBLE_SCHEMA_ROW, 0);
        w->schema_holes = true;
        return;
    }
    bool index = schema_is(w, &v[SCHEMA_TYPE], "index");
    if (!index && !schema_is(w, &v[SCHEMA_TYPE], "table"))
        return; /* views and triggers have no pages */
    int64_t root = v[SCHEMA_ROOT].number;
    struct walk_object o = {.root = root < 0 || root > UINT32_MAX ? UINT32_MAX : (uint32_t)root,
                            .schema_page = page,
                            .index = index};
    if (o.root == 0) {
        char *sql = dbformat_text(&v[SCHEMA_SQL], encoding);
        o.module = sql ? sql_module(sql) : NULL;
        free(sql);
        if (!o.module) {
            w->failed = WALK_NOMEM;
            return;
        }
    }
    o.name = dbformat_text(&v[SCHEMA_NAME], encoding);
    o.table = dbformat_text(&v[SCHEMA_TABLE], encoding);
    (void)walk_object_add(w, &o);
}

void walk_schema_keep(struct walk *w, uint32_t page)
{
    for (uint32_t i = 0; i < w->before->object_count && w->failed == WALK_OK; i++) {
        const struct walk_object *b = &w->before->objects[i];
        if (b->schema_page != page || b->root == 1)
            continue;
        struct walk_object o = {.root = b->root,
                                .schema_page = page,
                                .index = b->index,
                                .name = strdup(b->name),
                                .table = strdup(b->table),
                                .module = b->module ? strdup(b->module) : NULL};
        (void)walk_object_add(w, &o);
    }
}

/* --- shadow tables ------------------------------------------------------------------------------ */

static int schema_compare_roots(const void *a, const void *b)
{
    const struct walk_object *x = a, *y = b;
    if (x->root != y->root)
        return x->root < y->root ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int schema_compare_virtual(const void *a, const void *b)
{
    return strcasecmp((*(const struct walk_object *const *)a)->name,
                      (*(const struct walk_object *const *)b)->name);
}

/* The virtual table whose name is the first `length` bytes of `name`. */
static const struct walk_object *schema_find_virtual(const struct walk_object *const *list,
                                                     uint32_t count, const char *name,
                                                     size_t length)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = strncasecmp(list[mid]->name, name, length);
        if (order == 0 && list[mid]->name[length])
            order = 1;
        if (order == 0)
            return list[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static bool schema_is_shadow(const char *module, const char *suffix)
{
    for (size_t i = 0; i < sizeof shadow_names / sizeof shadow_names[0]; i++) {
        if (strcasecmp(module, shadow_names[i].module) != 0)
            continue;
        size_t length = strlen(suffix);
        for (const char *s = shadow_names[i].suffixes; (s = strchr(s, ' ')) && s[1]; s++)
            if (strncasecmp(s + 1, suffix, length) == 0 && s[1 + length] == ' ')
                return true;
        return false;
    }
    return true;
}

static const char *schema_serves(const struct walk_object *const *list, uint32_t count,
                                 const char *table)
{
    for (size_t length = strlen(table); count && length > 1; length--) {
        if (table[length - 1] != '_')
            continue;
        const struct walk_object *v = schema_find_virtual(list, count, table, length - 1);
        if (v && schema_is_shadow(v->module, table + length))
            return v->name;
    }
    return NULL;
}

void walk_schema_finish(struct walk *w)
{
    struct walk_map *m = w->map;
    struct walk_object schema = {.root = 1,
                                 .schema_page = 1,
                                 .name = strdup("sqlite_schema"),
                                 .table = strdup("sqlite_schema")};
    if (!walk_object_add(w, &schema))
        return;
    qsort(m->objects, m->object_count, sizeof *m->objects, schema_compare_roots);
    uint32_t count = 0;
    const struct walk_object **list = malloc(m->object_count * sizeof *list);
    if (!list) {
        w->failed = WALK_NOMEM;
        return;
    }
    for (uint32_t i = 0; i < m->object_count; i++)
        if (m->objects[i].module)
            list[count++] = &m->objects[i];
    qsort(list, count, sizeof *list, schema_compare_virtual);
    for (uint32_t i = 0; i < m->object_count; i++)
        if (m->objects[i].root > 1)
            m->objects[i].serves = schema_serves(list, count, m->objects[i].table);
    free(list);
}
