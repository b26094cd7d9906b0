/* writeback.c: a bitmap of lines for each page, and a ring of the pages that have one.
 *
 * What a crash finds: before writeback_flush and P3, any part of the noted lines is on the medium, as if
 * they had been evicted from the cache; their records are replayed. After P3, all are.
 */
#include "engine/writeback.h"

#include "engine/lines.h"
#include "engine/media.h"
#include "engine/store.h"

#define WRITEBACK_MASK (DAX_UNFLUSHED_PAGES - 1)

static void writeback_flush_oldest(struct store *s)
{
    struct region *r = &s->region;
    struct region_unflushed *u = r->unflushed;
    uint64_t page = u->pages[u->first & WRITEBACK_MASK];
    uint64_t bitmap = r->unflushed_lines[page];
    struct guard_fault fault;
    u->first++;
    u->count--;
    r->unflushed_lines[page] = 0;
    if (!lines_try_flush(&s->persist, base_at(&s->base, page << DAX_PAGE_SHIFT), bitmap, &fault))
        (void)media_fault(s, page, &fault, NULL);
}

void writeback_note(struct store *s, uint64_t page, uint64_t bitmap)
{
    struct region *r = &s->region;
    struct region_unflushed *u = r->unflushed;
    if (s->persist.mode == PERSIST_MSYNC || bitmap == 0)
        return;
    uint64_t before = r->unflushed_lines[page];
    r->unflushed_lines[page] = before | bitmap;
    if (before)
        return;
    if (u->count == DAX_UNFLUSHED_PAGES)
        writeback_flush_oldest(s);
    u->pages[(u->first + u->count++) & WRITEBACK_MASK] = (uint32_t)page;
}

void writeback_flush(struct store *s)
{
    while (s->region.unflushed->count)
        writeback_flush_oldest(s);
}
