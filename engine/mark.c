/* mark.c: puts daxlite's mark into SQLite's header, takes it out, and hides it from SQLite.
 *
 *   byte 18        write version, untouched while the mark stands
 *   byte 19        read version; 0xDA is the mark, and makes every SQLite say "not a database"
 *   bytes 72 - 91  struct mark_bytes: magic, format, version bytes to put back, nonce, check
 *
 * Setting, and what a crash just after each step leaves on media:
 *   1. the cursor slot names the nonce (P4)       NONE: the sidecar is irrelevant
 *   2. bytes 72 - 79 stored (with the magic)      NONE or LEFT
 *   3. fence                                      LEFT
 *   4. bytes 80 - 91 stored                       LEFT, with any part of them
 *   5. P5                                         LEFT, whole: byte 19 is plain, the file is plain
 *   6. byte 19 stored                             LEFT or SET: the log is empty, both are right
 *   7. P6                                         SET: the first record may follow
 *
 * Removing, with the log empty and all of it in base:
 *   1. byte 18, then byte 19 stored               SET or LEFT: the log is empty, both are right
 *   2. P6                                         LEFT: stock SQLite may have the file
 *   3. bytes 80 - 91 zeroed, fence                LEFT, with any part of them
 *   4. bytes 72 - 79 zeroed, without a point      LEFT or NONE
 *
 * 8 aligned bytes are stored whole or not at all, so with the magic first and last, a body of ours
 * that is torn is still known as ours (LEFT) and never taken for somebody else's data. In msync
 * mode the body lies within one sector, to the same effect. LEFT means no more than NONE does:
 * SQLite neither reads nor changes those bytes, and the next set stores them anew.
 */
#include "engine/mark.h"
#include "engine/hash.h"

#include <string.h>

/* The read versions that SQLite knows: 1 legacy, 2 WAL; 0 while the header is still empty. */
#define MARK_VERSION_LEGACY 1u
#define MARK_VERSION_WAL 2u

#define MARK_CHECKED_BYTES offsetof(struct mark_bytes, check)
static_assert(MARK_CHECKED_BYTES == 16, "check covers the 16 bytes before it");

/* The first 8 bytes of the body, stored first and removed last. */
#define MARK_WORD_BYTES 8u
static_assert(offsetof(struct mark_bytes, nonce) == MARK_WORD_BYTES, "magic is in the first word");
static_assert(DAX_HEADER_RESERVED % MARK_WORD_BYTES == 0, "the first word is stored whole");

static uint32_t mark_check(const struct mark_bytes *body)
{
    return (uint32_t)hash_bytes(body, MARK_CHECKED_BYTES);
}

static struct mark_bytes mark_body(const struct mark *m)
{
    struct mark_bytes body = {
        .magic = DAX_MARK_MAGIC,
        .format = DAX_MARK_FORMAT,
        .write_version = m->write_version,
        .read_version = m->read_version,
        .nonce = m->nonce,
    };
    body.check = mark_check(&body);
    return body;
}

static bool mark_is_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] != 0)
            return false;
    return true;
}

enum mark_state mark_read(const uint8_t header[DAX_HEADER_BYTES], struct mark *out)
{
    const uint8_t *reserved = header + DAX_HEADER_RESERVED;
    struct mark_bytes body;
    memcpy(&body, reserved, sizeof body);
    bool ours = body.magic == DAX_MARK_MAGIC;

    if (header[DAX_HEADER_READ_VERSION] <= MARK_VERSION_WAL) {
        if (mark_is_zero(reserved, DAX_HEADER_RESERVED_BYTES))
            return MARK_NONE;
        return ours ? MARK_LEFT : MARK_RESERVED_USED; /* ours, even if torn: see above */
    }
    /* A format that we do not know is a newer daxlite's; a version to put back that SQLite does not
     * know was never ours. */
    if (header[DAX_HEADER_READ_VERSION] != DAX_MARK_READ_VERSION || !ours ||
        body.check != mark_check(&body) || body.format != DAX_MARK_FORMAT ||
        body.read_version > MARK_VERSION_WAL)
        return MARK_FOREIGN;
    *out = (struct mark){.nonce = body.nonce,
                         .write_version = body.write_version,
                         .read_version = body.read_version};
    return MARK_SET;
}

void mark_put(uint8_t *header, const struct mark *m)
{
    struct mark_bytes body = mark_body(m);
    memcpy(header + DAX_HEADER_RESERVED, &body, sizeof body);
    header[DAX_HEADER_WRITE_VERSION] = m->write_version;
    header[DAX_HEADER_READ_VERSION] = DAX_MARK_READ_VERSION;
}

/* What SQLite sees of a version byte: never WAL, since the database is not in its WAL mode here. */
static uint8_t mark_shown_version(uint8_t version)
{
    return version == MARK_VERSION_WAL ? MARK_VERSION_LEGACY : version;
}

void mark_hide(uint8_t *buf, uint64_t offset, uint64_t len, const struct mark *m)
{
    if (offset >= DAX_HEADER_RESERVED + DAX_HEADER_RESERVED_BYTES)
        return;
    uint64_t end = offset + len;
    if (offset <= DAX_HEADER_WRITE_VERSION && DAX_HEADER_WRITE_VERSION < end)
        buf[DAX_HEADER_WRITE_VERSION - offset] = mark_shown_version(m->write_version);
    if (offset <= DAX_HEADER_READ_VERSION && DAX_HEADER_READ_VERSION < end)
        buf[DAX_HEADER_READ_VERSION - offset] = mark_shown_version(m->read_version);

    uint64_t from = offset > DAX_HEADER_RESERVED ? offset : DAX_HEADER_RESERVED;
    uint64_t to = DAX_HEADER_RESERVED + DAX_HEADER_RESERVED_BYTES;
    if (end < to)
        to = end;
    if (from < to)
        memset(buf + (from - offset), 0, to - from);
}

dax_rc mark_set(struct persist *p, uint8_t *header, const struct mark *m, struct dax_err *err)
{
    struct mark_bytes body = mark_body(m);
    uint8_t *reserved = header + DAX_HEADER_RESERVED;
    uint8_t *byte19 = header + DAX_HEADER_READ_VERSION;
    uint8_t plain = *byte19;
    uint8_t marked = DAX_MARK_READ_VERSION;

    persist_store(p, reserved, &body, MARK_WORD_BYTES);
    persist_visible(p);
    persist_store(p, reserved + MARK_WORD_BYTES, (uint8_t *)&body + MARK_WORD_BYTES,
                  sizeof body - MARK_WORD_BYTES);
    dax_rc rc = persist_point(p, PERSIST_P5_MARK_BODY, err);
    if (rc != DAX_OK)
        return rc;
    persist_store(p, byte19, &marked, 1);
    rc = persist_point(p, PERSIST_P6_MARK_BYTE, err);
    if (rc != DAX_OK)
        persist_store(p, byte19, &plain, 1); /* no mark is in force, as the caller is told */
    return rc;
}

/* The word with the magic goes last, so that a torn rest still reads as ours. */
static void mark_wipe(struct persist *p, uint8_t *header)
{
    uint8_t *reserved = header + DAX_HEADER_RESERVED;
    persist_zero(p, reserved + MARK_WORD_BYTES, DAX_HEADER_RESERVED_BYTES - MARK_WORD_BYTES);
    persist_visible(p);
    persist_zero(p, reserved, MARK_WORD_BYTES);
}

dax_rc mark_sweep(struct persist *p, uint8_t *header, struct dax_err *err)
{
    mark_wipe(p, header);
    return persist_point(p, PERSIST_P5_MARK_BODY, err);
}

dax_rc mark_clear(struct persist *p, uint8_t *header, const struct mark *m, struct dax_err *err)
{
    uint8_t *byte18 = header + DAX_HEADER_WRITE_VERSION;
    uint8_t *byte19 = header + DAX_HEADER_READ_VERSION;
    uint8_t marked = *byte19;

    persist_store(p, byte18, &m->write_version, 1);
    persist_store(p, byte19, &m->read_version, 1);
    dax_rc rc = persist_point(p, PERSIST_P6_MARK_BYTE, err);
    if (rc != DAX_OK) {
        persist_store(p, byte19, &marked, 1); /* the mark stays in force */
        return rc;
    }
    mark_wipe(p, header);
    return DAX_OK;
}
