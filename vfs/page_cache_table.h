/* page_cache_table.h: a cache's hash table, page number -> entry: open addressing, 8 bytes a slot.
 *
 *   bits 56-63   how far the slot is from the key's home, plus 1; at most 255. 0: the slot is empty
 *   bits 48-55   8 bits of the key
 *   bits 0-47    address of the entry
 *
 * Robin Hood hashing: along a probe, no slot is nearer to its home than a later one could be, so
 * that a search for a key that is not there ends early; and a slot that is emptied is filled from
 * behind, so that nothing marks where something was. Neither looks at an entry. Fibonacci hashing
 * (multiplication by 2^32 over the golden ratio) puts neighbouring pages far apart and evenly. At
 * most half of the slots are in use.
 *
 * Invariants: T1 no empty slot, and none with a smaller distance than a search would have there,
 * lies between the home of a key and its slot. T2 at least a quarter of the slots are empty.
 */
#ifndef DAX_PAGE_CACHE_TABLE_H
#define DAX_PAGE_CACHE_TABLE_H

#include "vfs/page_cache_state.h"

/* Of a tag: the 16 bits above the address. */
#define TABLE_DISTANCE_ONE 0x100u
#define TABLE_DISTANCE_MOST 0xFFu

static inline struct entry *table_entry(uint64_t slot)
{
    return (struct entry *)(uintptr_t)(slot << 16 >> 16);
}

/* Distance and bits of the key. */
static inline uint32_t table_tag(uint64_t slot)
{
    return (uint32_t)(slot >> 48);
}

static inline uint32_t table_distance(uint32_t tag)
{
    return tag >> 8;
}

static inline uint32_t table_home(const struct sqlite3_pcache *c, uint32_t key)
{
    return key * 0x9E3779B1u >> c->table_shift;
}

/* The tag of a key at its home. */
static inline uint32_t table_tag_of(uint32_t key)
{
    return TABLE_DISTANCE_ONE | (key & 0xFF);
}

/* One slot further from home. */
static inline uint32_t table_further(uint32_t tag)
{
    return table_distance(tag) < TABLE_DISTANCE_MOST ? tag + TABLE_DISTANCE_ONE : tag;
}

static inline struct entry *table_find(const struct sqlite3_pcache *c, uint32_t key)
{
    uint32_t tag = table_tag_of(key);
    for (uint32_t i = table_home(c, key);; i = (i + 1) & c->table_mask) {
        uint64_t slot = c->table[i];
        if (table_tag(slot) == tag && table_entry(slot)->key == key)
            return table_entry(slot);
        if (table_distance(table_tag(slot)) < table_distance(tag))
            return NULL;
        tag = table_further(tag);
    }
}

/* As table_reserve, of a table that is full. page_cache_table.c */
bool table_grow(struct sqlite3_pcache *c);

/* Room for one more key; false: no memory, and the table is as it was. */
static inline bool table_reserve(struct sqlite3_pcache *c)
{
    return c->pages < c->table_mask / 2 || table_grow(c);
}

/* The small table of a new cache. page_cache_table.c */
void table_begin(struct sqlite3_pcache *c);

/* After table_reserve. The key is not in the table. page_cache_table.c */
void table_insert(struct sqlite3_pcache *c, struct entry *e);

/* An entry of the table gets another key, which is not in it. page_cache_table.c */
void table_rekey(struct sqlite3_pcache *c, struct entry *e, uint32_t key);

/* The key is in the table. page_cache_table.c */
void table_remove(struct sqlite3_pcache *c, const struct entry *e);

/* All slots empty. A table that is large, or was too large for its pages, becomes the smallest.
 * page_cache_table.c */
void table_clear(struct sqlite3_pcache *c);

/* A table that is far too large for what is in it becomes smaller. page_cache_table.c */
void table_fit(struct sqlite3_pcache *c);

#endif
