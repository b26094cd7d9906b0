/* engine.h: what the tests of bad pages under the engine share: a database of version 1 on PAGES pages
 * (db.h), and what is known of its pages.
 */
#ifndef TESTS_MEDIA_ENGINE_H
#define TESTS_MEDIA_ENGINE_H

#include "engine/media.h"
#include "engine/media_state.h"
#include "tests/media/bad_pages.h"
#include "tests/media/poison.h"
#include "tests/unit/db.h"

#define PAGES 32u

static const unsigned EVERY_WAY = BAD_MAPPED | BAD_READ;

static inline struct conn *made(const char *path)
{
    struct conn *c = db_open(path);
    db_write(c, 0, PAGES, 1);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    return c;
}

static inline void read_header(const char *path, uint8_t header[DAX_HEADER_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, header, DAX_HEADER_BYTES, 0), DAX_HEADER_BYTES);
    close(fd);
}

static inline bool poisoned(struct conn *c, uint64_t page)
{
    struct page_info info;
    conn_page_info(c, page, &info);
    return info.poisoned;
}

/* The last entry of a page of base. */
static inline struct media_entry entry_of(struct conn *c, uint64_t page)
{
    static struct media_entry all[256];
    struct media_entry e = {0};
    size_t n = conn_media_list(c, all, 256);
    for (size_t i = 0; i < n && i < 256; i++)
        if (all[i].part == MEDIA_BASE && page >= all[i].page &&
            page < all[i].page + pages_of(all[i].bytes))
            e = all[i];
    return e;
}

static inline size_t entries(struct conn *c)
{
    return conn_media_list(c, NULL, 0);
}

static inline void refuses(struct conn *c, uint64_t page)
{
    uint8_t buf[DAX_PAGE_BYTES];
    void *at;
    db_ok(conn_begin_read(c, &err));
    unit_fails(conn_read(c, buf, 8, page * DB_PAGE + 100, &err), DAX_IO_MEDIA, "cannot be read");
    unit_fails(conn_pin(c, page * DB_PAGE, DAX_PAGE_BYTES, &at, &err), DAX_IO_MEDIA,
               "cannot be read");
    ck_assert_uint_eq(db_status(c).pins, 0);
    conn_end_read(c);
}

static inline void others_are_well(struct conn *c, uint64_t page, uint64_t version)
{
    db_ok(conn_begin_read(c, &err));
    for (uint64_t p = 0; p < PAGES; p++)
        if (p != page)
            db_check(c, p, version);
    conn_end_read(c);
}

/* Run the tests; 77 where this process cannot poison pages. */
static inline int media_main(TCase *tc, const char *name)
{
    const char *refused =
        poison_refused(getenv("DAX_TEST_DIR") ? getenv("DAX_TEST_DIR") : "/dev/shm");
    if (refused) {
        printf("SKIPPED: %s\n", refused);
        return 77;
    }
    return db_main(tc, name);
}

#endif
