/* json.c: JSON text for the SQL functions. */
#include "vfs/json.h"

#include <string.h>

static void json_member(struct json *j, const char *name)
{
    if (!j->first)
        sqlite3_str_appendchar(j->out, 1, ',');
    j->first = false;
    if (name)
        sqlite3_str_appendf(j->out, "\"%s\":", name); /* names are ours: nothing to escape */
}

void json_object_open(struct json *j, const char *name)
{
    json_member(j, name);
    sqlite3_str_appendchar(j->out, 1, '{');
    j->first = true;
}

void json_object_close(struct json *j)
{
    sqlite3_str_appendchar(j->out, 1, '}');
    j->first = false;
}

void json_array_open(struct json *j, const char *name)
{
    json_member(j, name);
    sqlite3_str_appendchar(j->out, 1, '[');
    j->first = true;
}

void json_array_close(struct json *j)
{
    sqlite3_str_appendchar(j->out, 1, ']');
    j->first = false;
}

/* Length of the well-formed UTF-8 sequence at s (0: none). Refuses overlong forms, surrogates and
 * anything above U+10FFFF by the range of the second byte, as the Unicode standard's table 3-7. */
static unsigned utf8_sequence(const unsigned char *s)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high, length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    if (s[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (s[0] < forms[i].first_low || s[0] > forms[i].first_high)
            continue;
        if (s[1] < forms[i].second_low || s[1] > forms[i].second_high)
            return 0;
        for (unsigned k = 2; k < forms[i].length; k++)
            if ((s[k] & 0xc0) != 0x80) /* the string's end is no continuation byte either */
                return 0;
        return forms[i].length;
    }
    return 0;
}

void json_text(struct json *j, const char *name, const char *text)
{
    if (!text) {
        json_null(j, name);
        return;
    }
    json_member(j, name);
    sqlite3_str_appendchar(j->out, 1, '"');
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        unsigned length = utf8_sequence(s);
        if (length == 0) {
            sqlite3_str_appendall(j->out, "\xef\xbf\xbd");
            s++;
            continue;
        }
        if (*s == '"' || *s == '\\')
            sqlite3_str_appendf(j->out, "\\%c", *s);
        else if (*s < 0x20)
            sqlite3_str_appendf(j->out, "\\u%04x", (unsigned)*s);
        else
            sqlite3_str_append(j->out, (const char *)s, (int)length);
        s += length;
    }
    sqlite3_str_appendchar(j->out, 1, '"');
}

void json_text_or_null(struct json *j, const char *name, const char *text)
{
    json_text(j, name, text && *text ? text : NULL);
}

void json_number(struct json *j, const char *name, uint64_t value)
{
    json_member(j, name);
    sqlite3_str_appendf(j->out, "%llu", (unsigned long long)value);
}

void json_number_or_null(struct json *j, const char *name, uint64_t value)
{
    if (value)
        json_number(j, name, value);
    else
        json_null(j, name);
}

void json_bool(struct json *j, const char *name, bool value)
{
    json_member(j, name);
    sqlite3_str_appendall(j->out, value ? "true" : "false");
}

void json_null(struct json *j, const char *name)
{
    json_member(j, name);
    sqlite3_str_appendall(j->out, "null");
}

void json_result(sqlite3_context *ctx, struct json *j)
{
    int rc = sqlite3_str_errcode(j->out);
    char *text = sqlite3_str_finish(j->out);
    if (rc == SQLITE_OK && text)
        sqlite3_result_text(ctx, text, -1, sqlite3_free);
    else if (rc == SQLITE_TOOBIG)
        sqlite3_result_error_toobig(ctx);
    else
        sqlite3_result_error_nomem(ctx);
}
