/* page_cache_table.h: a cache's hash table, page number -> entry: open addressing, 8 bytes a slot.
 *
 * A slot is an entry's address (48 bits) under 16 bits of its key, so that other keys are passed by
 * without a look at their entries. 0 is an empty slot, TABLE_GONE one that was emptied while others
 * were behind it. Eight neighbouring keys share a line of the table: pages that are read in order find
 * their slots in order. At most half of the slots are in use.
 */
#ifndef DAX_PAGE_CACHE_TABLE_H
#define DAX_PAGE_CACHE_TABLE_H

#include "vfs/page_cache_state.h"

#define TABLE_GONE 1u
#define TABLE_ADDRESS ((UINT64_C(1) << 48) - 1)

static inline uint64_t table_tag(uint32_t key)
{
    return (uint64_t)((key ^ key >> 16) & 0xFFFF) << 48;
}

static inline struct entry *table_entry(uint64_t slot)
{
    return (struct entry *)(uintptr_t)(slot & TABLE_ADDRESS);
}

static inline uint32_t table_home(const struct sqlite3_pcache *c, uint32_t key)
{
    uint32_t line = (key >> 3) * 0x9E3779B1u >> (35 - c->table_bits);
    return line << 3 | (key & 7);
}

static inline struct entry *table_find(const struct sqlite3_pcache *c, uint32_t key)
{
    uint32_t mask = (1u << c->table_bits) - 1;
    uint64_t tag = table_tag(key);
    for (uint32_t i = table_home(c, key);; i = (i + 1) & mask) {
        uint64_t slot = c->table[i];
        if (slot == 0)
            return NULL;
        /* TABLE_GONE has no address: it must not pass for an entry of tag 0. */
        if ((slot & ~TABLE_ADDRESS) == tag && slot != TABLE_GONE && table_entry(slot)->key == key)
            return table_entry(slot);
    }
}

/* Room for one more key; false: no memory, and the table is as it was. page_cache_table.c */
bool table_reserve(struct sqlite3_pcache *c);

/* After table_reserve. The key is not in the table. page_cache_table.c */
void table_insert(struct sqlite3_pcache *c, struct entry *e);

/* An entry of the table gets another key, which is not in it. page_cache_table.c */
void table_rekey(struct sqlite3_pcache *c, struct entry *e, uint32_t key);

/* The key is in the table. page_cache_table.c */
void table_remove(struct sqlite3_pcache *c, const struct entry *e);

/* All slots empty. A table that was large, or too large for so many pages, becomes the smallest.
 * page_cache_table.c */
void table_clear(struct sqlite3_pcache *c, uint32_t pages_before);

/* A table that is far too large for what is in it becomes smaller. page_cache_table.c */
void table_fit(struct sqlite3_pcache *c);

#endif
