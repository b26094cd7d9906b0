/* page_cache_table.c: changes of a cache's hash table.
 *
 * Invariants: T1 table_fill counts the slots that are not 0, those gone included, and is at most three
 * quarters of all, so every search ends. T2 between the home of a key and its slot there is no
 * empty slot.
 */
#include <string.h>

#include "vfs/page_cache_table.h"

static void table_put(struct sqlite3_pcache *c, struct entry *e)
{
    uint32_t mask = (1u << c->table_bits) - 1;
    uint32_t i = table_home(c, e->key);
    while (c->table[i] > TABLE_GONE)
        i = (i + 1) & mask;
    c->table_fill += c->table[i] == 0;
    c->table[i] = (uint64_t)(uintptr_t)e | table_tag(e->key);
}

/* Move everything into a table of 2^bits slots. */
static bool table_resize(struct sqlite3_pcache *c, uint32_t bits)
{
    uint64_t *old = c->table;
    size_t old_slots = (size_t)1 << c->table_bits, slots = (size_t)1 << bits;
    uint64_t *table =
        slots > CACHE_TABLE_MIN ? pool_allocate(c, slots * sizeof *table) : c->small_table;
    if (!table)
        return false;
    memset(table, 0, slots * sizeof *table);
    c->table = table;
    c->table_bits = bits;
    c->table_fill = 0;
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i] > TABLE_GONE)
            table_put(c, table_entry(old[i]));
    }
    if (old != c->small_table)
        pool_free(c, old);
    return true;
}

/* Turn slots that are gone into empty ones, in place. From an empty slot on, each entry is put anew: all
 * before it are where they will stay, so it can only come nearer to its home. */
static void table_tidy(struct sqlite3_pcache *c)
{
    uint32_t slots = 1u << c->table_bits, first = 0;
    while (c->table[first] != 0)
        first++;
    for (uint32_t i = 0; i < slots; i++) {
        if (c->table[i] == TABLE_GONE)
            c->table[i] = 0;
    }
    for (uint32_t n = 1; n < slots; n++) {
        uint32_t i = (first + n) & (slots - 1);
        uint64_t slot = c->table[i];
        c->table[i] = 0;
        if (slot)
            table_put(c, table_entry(slot));
    }
    c->table_fill = c->pages;
}

static bool table_has_room(const struct sqlite3_pcache *c, uint32_t fill)
{
    return ((uint64_t)fill + 1) * 4 <= (uint64_t)3 << c->table_bits;
}

bool table_reserve(struct sqlite3_pcache *c)
{
    if (((uint64_t)c->pages + 1) * 2 > (uint64_t)1 << c->table_bits &&
        table_resize(c, c->table_bits + 1))
        return true;
    if (!table_has_room(c, c->table_fill) && table_has_room(c, c->pages))
        table_tidy(c);
    return table_has_room(c, c->table_fill);
}

void table_insert(struct sqlite3_pcache *c, struct entry *e)
{
    table_put(c, e);
    count_set(&c->pages, c->pages + 1);
    if (e->key > c->max_key)
        c->max_key = e->key;
}

void table_remove(struct sqlite3_pcache *c, const struct entry *e)
{
    uint32_t mask = (1u << c->table_bits) - 1;
    uint32_t i = table_home(c, e->key);
    while (table_entry(c->table[i]) != e)
        i = (i + 1) & mask;
    c->table[i] = TABLE_GONE;
    count_set(&c->pages, c->pages - 1);
    if (c->table[(i + 1) & mask] != 0)
        return;
    /* Nobody looks for anything behind an empty slot. */
    for (; c->table[i] == TABLE_GONE; i = (i - 1) & mask) {
        c->table[i] = 0;
        c->table_fill--;
    }
}

void table_rekey(struct sqlite3_pcache *c, struct entry *e, uint32_t key)
{
    table_remove(c, e);
    if (!table_has_room(c, c->table_fill))
        table_tidy(c);
    e->key = key;
    table_insert(c, e);
}

void table_clear(struct sqlite3_pcache *c, uint32_t pages_before)
{
    size_t slots = (size_t)1 << c->table_bits;
    bool large = slots > 1024 || slots > (size_t)pages_before * 8;
    count_set(&c->pages, 0);
    c->max_key = 0;
    if (large && c->table != c->small_table) {
        pool_free(c, c->table);
        c->table = c->small_table;
        c->table_bits = 4;
        slots = CACHE_TABLE_MIN;
    }
    memset(c->table, 0, slots * sizeof *c->table);
    c->table_fill = 0;
}

void table_fit(struct sqlite3_pcache *c)
{
    uint32_t bits = 4;
    while (bits < 31 && (uint64_t)1 << bits < (uint64_t)c->pages * 2)
        bits++;
    if (bits + 2 <= c->table_bits)
        (void)table_resize(c, bits); /* no memory: it stays as large as it was */
}
