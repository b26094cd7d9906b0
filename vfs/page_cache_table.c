/* page_cache_table.c: changes of a cache's hash table. Format and invariants: page_cache_table.h.
 */
#include "vfs/page_cache_table.h"

#include <string.h>

static uint64_t table_slot(uint32_t tag, const struct entry *e)
{
    return (uint64_t)tag << 48 | (uint64_t)(uintptr_t)e;
}

static void table_set(struct sqlite3_pcache *c, uint64_t *table, size_t slots)
{
    c->table = table;
    c->table_mask = (uint32_t)slots - 1;
    c->table_shift = 32 - (uint32_t)__builtin_ctzl(slots);
    memset(table, 0, slots * sizeof *table);
}

void table_begin(struct sqlite3_pcache *c)
{
    table_set(c, c->small_table, CACHE_TABLE_MIN);
}

static void table_put(struct sqlite3_pcache *c, struct entry *e)
{
    uint32_t tag = table_tag_of(e->key);
    for (uint32_t i = table_home(c, e->key);; i = (i + 1) & c->table_mask) {
        uint64_t slot = c->table[i];
        if (table_distance(table_tag(slot)) < table_distance(tag)) {
            c->table[i] = table_slot(tag, e); /* whoever is nearer to home gives way */
            if (!slot)
                return;
            e = table_entry(slot);
            tag = table_tag(slot);
        }
        tag = table_further(tag);
    }
}

/* The slot at i, as it will be one slot nearer to home. */
static uint64_t table_nearer(const struct sqlite3_pcache *c, uint32_t i)
{
    uint64_t slot = c->table[i];
    uint32_t tag = table_tag(slot);
    if (table_distance(tag) == TABLE_DISTANCE_MOST &&
        ((i - table_home(c, table_entry(slot)->key)) & c->table_mask) >= TABLE_DISTANCE_MOST)
        return slot;
    return table_slot(tag - TABLE_DISTANCE_ONE, table_entry(slot));
}

/* Move everything into a table of so many slots. */
static bool table_resize(struct sqlite3_pcache *c, size_t slots)
{
    uint64_t *old = c->table;
    size_t old_slots = (size_t)c->table_mask + 1;
    uint64_t *table =
        slots > CACHE_TABLE_MIN ? pool_allocate(c, slots * sizeof *table) : c->small_table;
    if (!table)
        return false;
    table_set(c, table, slots);
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i])
            table_put(c, table_entry(old[i]));
    }
    if (old != c->small_table)
        pool_free(c, old);
    return true;
}

bool table_grow(struct sqlite3_pcache *c)
{
    size_t slots = (size_t)c->table_mask + 1;
    return table_resize(c, slots * 2) || ((size_t)c->pages + 1) * 4 <= slots * 3;
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
    uint32_t mask = c->table_mask, i = table_home(c, e->key), next;
    while (table_entry(c->table[i]) != e)
        i = (i + 1) & mask;
    count_set(&c->pages, c->pages - 1);
    for (; next = (i + 1) & mask, table_distance(table_tag(c->table[next])) > 1; i = next)
        c->table[i] = table_nearer(c, next);
    c->table[i] = 0;
}

void table_rekey(struct sqlite3_pcache *c, struct entry *e, uint32_t key)
{
    table_remove(c, e);
    e->key = key;
    table_insert(c, e);
}

void table_clear(struct sqlite3_pcache *c)
{
    size_t slots = (size_t)c->table_mask + 1;
    uint64_t *table = c->table;
    if (slots > 1024 || slots > (size_t)c->pages * 8)
        table_begin(c);
    else
        memset(table, 0, slots * sizeof *table);
    if (table != c->table && table != c->small_table)
        pool_free(c, table);
    count_set(&c->pages, 0);
    c->max_key = 0;
}

void table_fit(struct sqlite3_pcache *c)
{
    size_t slots = CACHE_TABLE_MIN;
    while (slots < (size_t)c->pages * 2)
        slots *= 2;
    if (slots * 4 <= (size_t)c->table_mask + 1)
        (void)table_resize(c, slots); /* no memory: it stays as large as it was */
}
