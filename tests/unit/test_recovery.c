/* test_recovery.c: would catch a recovery that depends on how much of the log base holds already,
 * that goes on behind a damaged record, changes a file that it refuses, loses its way when it is
 * interrupted, or takes a missing, foreign or half-written sidecar for the right one.
 *
 * A history of commits is recorded: the database file after each, and the sidecar at the end with
 * all records live. By L1 every one of these files, and every mixture of their lines, recovers to
 * the newest state with that sidecar.
 */
#include "tests/unit/db.h"

#define PAGES 12u
#define COMMITS 8u

struct history {
    char path[512];
    char copy[512];
    uint64_t root_offset, twin_offset, ring_offset, ring_bytes; /* in the sidecar's file */
    uint64_t lsn[COMMITS + 2];                     /* of the record of commit i; behind the last */
};

/* After commit i. */
static const char *history_image(unsigned i)
{
    char name[32];
    snprintf(name, sizeof name, "image-%u.db", i);
    return unit_path(name);
}

static bool commit_changes(unsigned i, uint64_t page)
{
    return page == i % PAGES || page == i * 5 % PAGES;
}

static uint64_t history_version(unsigned commits, uint64_t page)
{
    for (unsigned i = commits; i > 0; i--)
        if (commit_changes(i, page))
            return 1 + i;
    return 1;
}

static void history_record(struct history *h)
{
    snprintf(h->path, sizeof h->path, "%s", unit_path("app.db"));
    snprintf(h->copy, sizeof h->copy, "%s", unit_path("copy.db"));
    struct conn *c = db_open(h->path);
    db_write(c, 0, PAGES, 1);
    db_checkpoint(c, CHECKPOINT_FULL);
    const struct sidecar *sidecar = &c->store->sidecar;
    h->root_offset = (uint64_t)((uint8_t *)sidecar->root - (uint8_t *)sidecar->pool);
    h->twin_offset = (uint64_t)((uint8_t *)sidecar->twin - (uint8_t *)sidecar->pool);
    h->ring_offset = (uint64_t)(sidecar->ring - (uint8_t *)sidecar->pool);
    h->ring_bytes = sidecar->ring_bytes;
    db_copy_file(h->path, history_image(0));
    for (unsigned i = 1; i <= COMMITS; i++) {
        h->lsn[i] = db_status(c).lsn_tail;
        db_begin(c);
        for (uint64_t page = 0; page < PAGES; page++)
            if (commit_changes(i, page))
                db_put(c, page, 1 + i);
        db_commit(c);
        db_copy_file(h->path, history_image(i));
    }
    h->lsn[COMMITS + 1] = db_status(c).lsn_tail;
    db_copy_file(db_sidecar(h->path), unit_path("sidecar"));
    db_close(c);
}

/* The copy is the file after commit i, with the sidecar of the end. */
static void history_restore(struct history *h, unsigned i)
{
    db_copy_file(history_image(i), h->copy);
    db_copy_file(unit_path("sidecar"), db_sidecar(h->copy));
}

/* Flip bits of the record that is log byte `at` of commit i's record. */
static void history_damage(struct history *h, unsigned i, uint64_t at)
{
    uint64_t offset = h->ring_offset + (h->lsn[i] + at) % h->ring_bytes;
    uint8_t byte;
    int fd = open(db_sidecar(h->copy), O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x41;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* As if the power had gone before commit i was sealed: no seal says more than the records before it. */
static void history_unseal(struct history *h, unsigned i)
{
    struct sidecar_twin twin;
    int fd = open(db_sidecar(h->copy), O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &twin, sizeof twin, (off_t)h->twin_offset), sizeof twin);
    for (unsigned k = 0; k < DAX_SEALS; k++)
        if (twin.seal[k].lsn > h->lsn[i])
            memset(&twin.seal[k], 0, sizeof twin.seal[k]);
    ck_assert_int_eq(pwrite(fd, &twin, sizeof twin, (off_t)h->twin_offset), sizeof twin);
    close(fd);
}

/* The copy opens in the state after commit i, and is at rest a file of that state. */
static void history_check(struct history *h, unsigned i, uint64_t records)
{
    struct conn *c = db_open(h->copy);
    struct store_status status = db_status(c);
    ck_assert_uint_eq(status.recovered_records, records);
    unit_ok(conn_begin_read(c, &err));
    ck_assert_uint_eq(conn_size(c), PAGES * DB_PAGE);
    for (uint64_t page = 0; page < PAGES; page++)
        db_check(c, page, history_version(i, page));
    conn_end_read(c);
    db_close(c);
    ck_assert_uint_eq(unit_file_size(h->copy), PAGES * DB_PAGE);
}

/* Refused, and no byte of the database has changed. */
static void history_refused(struct history *h, dax_rc code, const char *part)
{
    struct dax_options o = db_options();
    struct conn *c;
    const char *saved = unit_path("saved.db");
    db_copy_file(h->copy, saved);
    unit_fails(conn_open(h->copy, &o, &c, &err), code, part);
    ck_assert_ptr_null(c);
    ck_assert(db_same_file(h->copy, saved));
}

static dax_rc open_skipping(struct history *h, struct conn **out)
{
    struct dax_options o = db_options();
    o.skip_damaged_log = true;
    return conn_open(h->copy, &o, out, &err);
}

/* --- replay ----------------------------------------------------------------------------------- */

START_TEST(test_any_file_between_cursor_and_end_recovers_to_the_end)
{
    struct history h;
    history_record(&h);
    for (unsigned i = 0; i <= COMMITS; i++) {
        history_restore(&h, i);
        history_check(&h, COMMITS, COMMITS);
    }
}
END_TEST

/* What a crash leaves, and a crash of the recovery from it, and so on. */
START_TEST(test_any_mixture_of_lines_recovers_to_the_end)
{
    static uint8_t image[COMMITS + 1][PAGES * DAX_PAGE_BYTES], mixed[PAGES * DAX_PAGE_BYTES];
    struct history h;
    uint64_t random = 88172645463325252u;
    history_record(&h);
    for (unsigned i = 0; i <= COMMITS; i++) {
        int fd = open(history_image(i), O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(read(fd, image[i], sizeof image[i]), (ssize_t)sizeof image[i]);
        close(fd);
    }
    for (unsigned round = 0; round < 40; round++) {
        for (size_t line = 0; line < sizeof mixed; line += DAX_LINE_BYTES) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            memcpy(mixed + line, image[random % (COMMITS + 1)] + line, DAX_LINE_BYTES);
        }
        history_restore(&h, 0);
        unit_file_patch(h.copy, 0, mixed, sizeof mixed);
        history_check(&h, COMMITS, COMMITS);
    }
}
END_TEST

START_TEST(test_recovery_that_is_over_is_not_repeated)
{
    struct history h;
    history_record(&h);
    history_restore(&h, 3);
    const char *again = unit_path("again.db");
    struct conn *c = db_open(h.copy);
    db_copy(h.copy, again); /* recovered, still marked */
    db_close(c);
    snprintf(h.copy, sizeof h.copy, "%s", again);
    history_check(&h, COMMITS, 0);
}
END_TEST

/* A line of the torn record arrives late: it is whole now, at the tail, but of another life. */
START_TEST(test_a_record_of_an_earlier_life_is_history)
{
    struct history h;
    history_record(&h);
    history_restore(&h, COMMITS - 1);
    history_unseal(&h, COMMITS);
    history_damage(&h, COMMITS, 100);
    const char *again = unit_path("again.db");
    struct conn *c = db_open(h.copy);
    db_copy(h.copy, again);
    db_close(c);
    snprintf(h.copy, sizeof h.copy, "%s", again);
    history_damage(&h, COMMITS, 100); /* flips it back */
    history_check(&h, COMMITS - 1, 0);
}
END_TEST

START_TEST(test_a_torn_last_record_is_a_transaction_that_never_was)
{
    struct history h;
    history_record(&h);
    uint64_t bytes = h.lsn[COMMITS + 1] - h.lsn[COMMITS];
    for (uint64_t at = 0; at < bytes; at += DAX_LINE_BYTES) {
        history_restore(&h, COMMITS - 1); /* P2 not passed: no seal, and base holds none of it */
        history_unseal(&h, COMMITS);
        history_damage(&h, COMMITS, at + at / DAX_LINE_BYTES % DAX_LINE_BYTES);
        history_check(&h, COMMITS - 1, COMMITS - 1);
    }
}
END_TEST

/* A process that is killed in a transaction. */
START_TEST(test_a_killed_process_leaves_its_last_commit)
{
    const char *path = unit_path("app.db");
    pid_t pid = fork();
    if (pid == 0) {
        struct conn *c = db_open(path);
        for (uint64_t version = 1; version <= 50; version++)
            db_write(c, 0, PAGES, version);
        db_begin(c);
        for (uint64_t page = 0; page < 3 * PAGES; page++)
            db_put(c, page, 51);
        unit_ok(conn_prepare(c, &err));
        raise(SIGKILL);
    }
    ck_assert_int_eq(unit_wait(pid), 128 + SIGKILL);
    struct conn *c = db_open(path);
    db_check_all(c, PAGES, 50);
    db_write(c, 0, 3 * PAGES, 51);
    db_close(c);
}
END_TEST

/* --- damage ----------------------------------------------------------------------------------- */

START_TEST(test_a_damaged_record_in_the_middle_is_refused_and_nothing_changes)
{
    struct history h;
    history_record(&h);
    for (unsigned i = 1; i < COMMITS; i++) {
        for (unsigned base = 0; base <= COMMITS; base += COMMITS) {
            history_restore(&h, base);
            history_damage(&h, i, i % 2 ? 3 * DAX_LINE_BYTES + 5 : 16);
            history_refused(&h, DAX_CORRUPT, "is damaged: whole records follow");
        }
    }
}
END_TEST

/* The seal says that it was whole. */
START_TEST(test_a_damaged_last_record_is_not_taken_for_a_torn_one)
{
    struct history h;
    struct conn *c;
    history_record(&h);
    uint64_t bytes = h.lsn[COMMITS + 1] - h.lsn[COMMITS];
    for (uint64_t at = 0; at < bytes; at += DAX_LINE_BYTES) {
        for (unsigned base = COMMITS - 1; base <= COMMITS; base++) {
            history_restore(&h, base);
            history_damage(&h, COMMITS, at + at / DAX_LINE_BYTES % DAX_LINE_BYTES);
            history_refused(&h, DAX_CORRUPT, "is damaged: the log was whole up to");
        }
        unit_ok(open_skipping(&h, &c));
        ck_assert_uint_eq(db_status(c).recovered_records, COMMITS - 1);
        db_close(c);
    }
}
END_TEST

/* What the cursor names is sealed: nothing else says that the pinned page has a newer version. */
START_TEST(test_a_damaged_relog_record_is_not_taken_for_the_end_of_the_log)
{
    struct history h;
    struct dax_options o = db_options();
    struct conn *writer, *reader;
    o.persist = _i ? MEDIUM_MSYNC : MEDIUM_AUTO;
    snprintf(h.path, sizeof h.path, "%s", unit_path("app.db"));
    snprintf(h.copy, sizeof h.copy, "%s", unit_path("copy.db"));
    unit_ok(conn_open(h.path, &o, &writer, &err));
    db_write(writer, 0, PAGES, 1);
    db_checkpoint(writer, CHECKPOINT_FULL);
    unit_ok(conn_open(h.path, &o, &reader, &err));
    unit_ok(conn_begin_read(reader, &err));
    uint8_t *pin = db_pin(reader, 3);
    db_write(writer, 3, 5, 2);
    ck_assert_uint_eq(db_checkpoint(writer, CHECKPOINT_PASSIVE).pages_relogged, 1);
    const struct sidecar *sidecar = &writer->store->sidecar;
    h.ring_offset = (uint64_t)(sidecar->ring - (uint8_t *)sidecar->pool);
    h.ring_bytes = sidecar->ring_bytes;
    h.lsn[0] = db_status(writer).lsn_cursor;
    ck_assert_uint_lt(h.lsn[0], db_status(writer).lsn_tail);
    db_copy(h.path, h.copy);
    db_unpin(reader, 3, pin);
    conn_end_read(reader);
    db_close(reader);
    db_close(writer);
    history_damage(&h, 0, 90);
    history_refused(&h, DAX_CORRUPT, "is damaged: the log was whole up to");
    history_damage(&h, 0, 90);
    unit_ok(conn_open(h.copy, &o, &writer, &err));
    unit_ok(conn_begin_read(writer, &err));
    db_check_range(writer, 3, 5, 2);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

/* Seals are evidence only: none is needed where the records are whole. */
START_TEST(test_damaged_or_missing_seals_cost_nothing)
{
    struct history h;
    history_record(&h);
    history_restore(&h, 0);
    history_unseal(&h, 0);
    history_check(&h, COMMITS, COMMITS);
    for (unsigned k = 0; k < DAX_SEALS; k++) {
        history_restore(&h, k % (COMMITS + 1));
        unit_file_patch(db_sidecar(h.copy),
                        h.twin_offset + offsetof(struct sidecar_twin, seal) +
                            k * sizeof(struct seal) + k,
                        "\xA5\x5A", 2);
        history_check(&h, COMMITS, COMMITS);
    }
}
END_TEST

/* L6 goes on in recovery: what it is about to apply is sealed before. */
START_TEST(test_a_record_that_recovery_applies_is_sealed_first)
{
    struct history h;
    history_record(&h);
    history_restore(&h, COMMITS - 1);
    history_unseal(&h, 0);
    uint64_t salt = 0;
    struct conn *c = db_open(h.copy);
    struct sidecar_twin *twin = c->store->sidecar.twin;
    uint64_t newest = 0;
    for (unsigned k = 0; k < DAX_SEALS; k++)
        if (twin->seal[k].lsn > newest) {
            newest = twin->seal[k].lsn;
            salt = twin->seal[k].salt;
        }
    ck_assert_uint_eq(newest, h.lsn[COMMITS + 1]);
    ck_assert_uint_eq(sidecar_sealed(&c->store->sidecar, salt), newest);
    ck_assert_uint_eq(sidecar_sealed(&c->store->sidecar, salt + 1), 0);
    db_close(c);
}
END_TEST

/* The newest whole record that names a page decides; where none does, the file. */
static uint64_t skipped_version(unsigned damaged, unsigned base, uint64_t page)
{
    for (unsigned i = COMMITS; i > 0; i--)
        if (i != damaged && commit_changes(i, page))
            return 1 + i;
    return history_version(base, page);
}

START_TEST(test_skipping_a_damaged_record_replays_all_others)
{
    struct history h;
    struct conn *c;
    history_record(&h);
    for (unsigned i = 1; i < COMMITS; i++) {
        for (unsigned base = 0; base <= COMMITS; base++) {
            history_restore(&h, base);
            history_damage(&h, i, 70);
            unit_ok(open_skipping(&h, &c));
            ck_assert_uint_eq(db_status(c).recovered_records, COMMITS - 1);
            unit_ok(conn_begin_read(c, &err));
            for (uint64_t page = 0; page < PAGES; page++)
                db_check(c, page, skipped_version(i, base, page));
            conn_end_read(c);
            db_close(c);
        }
    }
}
END_TEST

/* Change a field of commit i's record and make its hash fit again. */
static void record_forge(struct history *h, unsigned i, size_t at, uint64_t value)
{
    static uint8_t buf[64 * DAX_PAGE_BYTES];
    size_t bytes = h->lsn[i + 1] - h->lsn[i];
    uint64_t offset = h->ring_offset + h->lsn[i] % h->ring_bytes;
    ck_assert_uint_le(bytes, sizeof buf);
    ck_assert_uint_le(h->lsn[i] % h->ring_bytes + bytes, h->ring_bytes);
    int fd = open(db_sidecar(h->copy), O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, buf, bytes, (off_t)offset), (ssize_t)bytes);
    memcpy(buf + at, &value, sizeof value);
    uint64_t hash = hash_bytes(buf + sizeof hash, bytes - sizeof hash);
    memcpy(buf, &hash, sizeof hash);
    ck_assert_int_eq(pwrite(fd, buf, bytes, (off_t)offset), (ssize_t)bytes);
    close(fd);
}

START_TEST(test_records_are_checked_beyond_their_hash)
{
    struct history h;
    history_record(&h);
    /* Out of sequence: as good as torn at the end, damage in the middle. */
    history_restore(&h, COMMITS - 1);
    history_unseal(&h, COMMITS);
    record_forge(&h, COMMITS, offsetof(struct record_header, txid), 1000);
    history_check(&h, COMMITS - 1, COMMITS - 1);
    history_restore(&h, 0);
    record_forge(&h, 4, offsetof(struct record_header, txid), 1000);
    history_refused(&h, DAX_CORRUPT, "is damaged");
    /* A page that the file has not got. */
    size_t page = sizeof(struct record_header) + offsetof(struct record_page, page);
    static const uint64_t far[] = {100000, DAX_MAX_PAGES, UINT64_MAX, UINT64_C(1) << 52};
    for (unsigned i = 0; i < sizeof far / sizeof *far; i++) {
        history_restore(&h, 0);
        record_forge(&h, 5, page, far[i]);
        history_refused(&h, DAX_CORRUPT, "has been truncated");
    }
}
END_TEST

START_TEST(test_a_truncated_database_is_refused)
{
    struct history h;
    history_record(&h);
    static const uint64_t sizes[] = {DAX_PAGE_BYTES, 5 * DAX_PAGE_BYTES,
                                     PAGES * DAX_PAGE_BYTES - 1};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        history_restore(&h, 0);
        ck_assert_int_eq(truncate(h.copy, (off_t)sizes[i]), 0);
        history_refused(&h, DAX_CORRUPT, "has been truncated");
    }
}
END_TEST

/* --- sidecar ---------------------------------------------------------------------------------- */

START_TEST(test_the_sidecar_must_be_there_and_be_the_right_one)
{
    struct history h;
    history_record(&h);
    history_restore(&h, 2);
    ck_assert_int_eq(unlink(db_sidecar(h.copy)), 0);
    history_refused(&h, DAX_CANT_OPEN, "missing");
    ck_assert(!unit_exists(db_sidecar(h.copy)));

    /* Of another database, in use like this one. */
    const char *other = unit_path("other.db"), *crashed = unit_path("crashed.db");
    struct conn *c = db_open(other);
    db_write(c, 0, 3, 1);
    db_copy(other, crashed);
    db_close(c);
    db_copy_file(db_sidecar(crashed), db_sidecar(h.copy));
    history_refused(&h, DAX_CANT_OPEN, "belongs to another database");

    unit_write_file(db_sidecar(h.copy), "no pool", 7);
    history_refused(&h, DAX_CORRUPT, "copy.db-dax");

    db_copy_file(unit_path("sidecar"), db_sidecar(h.copy));
    history_check(&h, COMMITS, COMMITS);
}
END_TEST

START_TEST(test_reading_alone_does_not_recover)
{
    struct history h;
    struct dax_options o = db_options();
    struct conn *c;
    history_record(&h);
    history_restore(&h, 2);
    o.read_only = true;
    unit_fails(conn_open(h.copy, &o, &c, &err), DAX_CANT_OPEN, "open it for writing once");
    history_check(&h, COMMITS, COMMITS);
}
END_TEST

/* The newer of the two cursor slots. */
static unsigned cursor_newer(struct history *h)
{
    struct cursor_slot slot[2];
    int fd = open(db_sidecar(h->copy), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, slot, sizeof slot,
                           (off_t)(h->root_offset + offsetof(struct sidecar_root, cursor))),
                     (ssize_t)sizeof slot);
    close(fd);
    return slot[1].seq > slot[0].seq;
}

enum cursor_copy { IN_ROOT, IN_TWIN };

static void cursor_damage(struct history *h, enum cursor_copy copy, unsigned slot, size_t at)
{
    static const uint8_t bytes[] = {0xA5, 0x5A, 0x77};
    uint64_t first = copy == IN_ROOT ? h->root_offset + offsetof(struct sidecar_root, cursor)
                                     : h->twin_offset + offsetof(struct sidecar_twin, cursor);
    unit_file_patch(db_sidecar(h->copy), first + slot * sizeof(struct cursor_slot) + at, bytes,
                    sizeof bytes);
}

START_TEST(test_a_torn_cursor_loses_to_the_one_before_it)
{
    struct history h;
    history_record(&h);
    for (size_t at = 0; at + 3 <= sizeof(struct cursor_slot); at += 5) {
        history_restore(&h, COMMITS);
        unsigned newer = cursor_newer(&h);
        cursor_damage(&h, IN_ROOT, newer, at);
        cursor_damage(&h, IN_TWIN, newer, at);
        /* The older one points before the first transaction. */
        history_check(&h, COMMITS, COMMITS + 1);
    }
    history_restore(&h, COMMITS);
    for (unsigned slot = 0; slot < 2; slot++) {
        cursor_damage(&h, IN_ROOT, slot, 9);
        cursor_damage(&h, IN_TWIN, slot, 9);
    }
    history_refused(&h, DAX_CORRUPT, "all copies of its slots are damaged");
}
END_TEST

START_TEST(test_a_damaged_copy_of_the_cursor_costs_nothing)
{
    struct history h;
    history_record(&h);
    for (size_t at = 0; at + 3 <= sizeof(struct cursor_slot); at += 5)
        for (unsigned copy = IN_ROOT; copy <= IN_TWIN; copy++) {
            history_restore(&h, COMMITS);
            cursor_damage(&h, copy, cursor_newer(&h), at);
            history_check(&h, COMMITS, COMMITS);
            history_restore(&h, COMMITS);
            cursor_damage(&h, copy, !cursor_newer(&h), at);
            history_check(&h, COMMITS, COMMITS);
        }
}
END_TEST

/* The slot before that of a recovery names records of an earlier life, which are whole and older than
 * what has been stored since: taking it for the newest would replay them over that. */
START_TEST(test_a_damaged_copy_of_the_cursor_does_not_bring_an_earlier_life_back)
{
    struct history h;
    history_record(&h);
    history_restore(&h, COMMITS);
    const char *again = unit_path("again.db"), *origin = unit_path("origin.db");
    struct conn *c = db_open(h.copy);
    db_write(c, 0, PAGES, 77);
    db_copy(h.copy, origin);
    db_close(c);
    for (unsigned copy = IN_ROOT; copy <= IN_TWIN; copy++) {
        db_copy(origin, again);
        snprintf(h.copy, sizeof h.copy, "%s", again);
        cursor_damage(&h, copy, cursor_newer(&h), 9);
        c = db_open(again);
        db_check_all(c, PAGES, 77);
        db_close(c);
    }
}
END_TEST

/* A process that was killed leaves applied lines in the processor's cache (writeback.h). Base reads as if
 * they were on the medium, but nothing has flushed them: recovery must store them, also where it finds
 * them there already, before it moves the cursor. */
START_TEST(test_what_base_holds_already_is_stored_all_the_same)
{
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    struct conn *c = db_open(path);
    db_write(c, 0, PAGES, 1);
    uint64_t applied = db_status(c).pages_applied;
    db_write(c, 2, 6, 2); /* whole pages ... */
    uint8_t byte = 0xA5;
    db_begin(c);
    unit_ok(conn_write(c, &byte, 1, 7 * DB_PAGE + 200, &err)); /* ... and a line */
    db_commit(c);
    ck_assert_uint_eq(db_status(c).pages_applied - applied, 5);
    db_copy(path, copy);
    db_close(c);
    c = db_open(copy);
    struct store_status s = db_status(c);
    ck_assert_uint_ge(s.recovered_records, 2);
    ck_assert_uint_ge(s.stored_base_bytes, 4 * DAX_PAGE_BYTES + DAX_LINE_BYTES);
    db_close(c);
}
END_TEST

/* --- scratch ---------------------------------------------------------------------------------- */

static struct persist_ops copying_ops;
static const struct persist_ops *copied_ops;
static const char *copying_from, *copying_to;

/* A copy of the files just behind P2. */
static int copying_sync_log(struct persist *p)
{
    int e = copied_ops->sync_log(p);
    if (copying_to)
        db_copy(copying_from, copying_to);
    copying_to = NULL;
    return e;
}

#define SMALL_RING (256 * DAX_KIB)
#define MANY 5000u /* pages: a list of pairs that is too long for one record of that ring */

static uint64_t scratch_crash(const char *path, const char *copy, uint64_t pages)
{
    struct conn *c = db_open(path);
    db_write(c, 0, pages, 1);
    db_small_ring(c, SMALL_RING);
    db_close(c);
    c = db_open(path);
    copied_ops = c->store->persist.ops;
    copying_ops = *copied_ops;
    copying_ops.sync_log = copying_sync_log;
    db_begin(c);
    ck_assert_uint_eq(db_status(c).ring_bytes, SMALL_RING);
    for (uint64_t page = 0; page < pages; page++)
        db_put(c, page, 2);
    unit_ok(conn_prepare(c, &err));
    uint64_t list_page = c->store->txn.log_listed ? c->store->txn.list_page : 0;
    copying_from = path;
    copying_to = copy;
    c->store->persist.ops = &copying_ops;
    db_commit(c);
    ck_assert_ptr_null(copying_to);
    c->store->persist.ops = copied_ops;
    db_close(c);
    return list_page;
}

START_TEST(test_a_transaction_in_scratch_is_durable_with_its_record)
{
    static const uint64_t sizes[] = {300, MANY};
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    for (unsigned i = 0; i < 2; i++) {
        uint64_t list = scratch_crash(path, copy, sizes[i]);
        ck_assert_int_eq(list != 0, sizes[i] == MANY);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(unlink(db_sidecar(path)), 0);
        struct conn *c = db_open(copy);
        ck_assert_uint_ge(db_status(c).recovered_pages, sizes[i] / 2);
        db_check_all(c, sizes[i], 2);
        db_close(c);
        ck_assert_uint_eq(unit_file_size(copy), sizes[i] * DB_PAGE);
    }
}
END_TEST

START_TEST(test_a_damaged_page_list_is_refused_and_nothing_changes)
{
    struct history h;
    const char *path = unit_path("app.db");
    snprintf(h.copy, sizeof h.copy, "%s", unit_path("copy.db"));
    uint64_t list = scratch_crash(path, h.copy, MANY);
    ck_assert_uint_ne(list, 0);
    unit_file_patch(h.copy, list * DB_PAGE + 17, "x", 1);
    struct dax_options o = db_options();
    struct conn *c;
    unit_fails(conn_open(h.copy, &o, &c, &err), DAX_CORRUPT, "page list");
    int fd = open(h.copy, O_RDONLY | O_CLOEXEC);
    for (uint64_t page = 1; page < MANY; page++) {
        uint8_t bytes[DAX_PAGE_BYTES];
        db_must(pread(fd, bytes, sizeof bytes, (off_t)(page * DB_PAGE)) == sizeof bytes, "pread");
        db_must(db_version(bytes, page) == 1, "page %llu", (unsigned long long)page);
    }
    close(fd);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("recovery", 600);
    tcase_add_test(tc, test_any_file_between_cursor_and_end_recovers_to_the_end);
    tcase_add_test(tc, test_any_mixture_of_lines_recovers_to_the_end);
    tcase_add_test(tc, test_recovery_that_is_over_is_not_repeated);
    tcase_add_test(tc, test_a_record_of_an_earlier_life_is_history);
    tcase_add_test(tc, test_a_torn_last_record_is_a_transaction_that_never_was);
    tcase_add_test(tc, test_a_killed_process_leaves_its_last_commit);
    tcase_add_test(tc, test_a_damaged_record_in_the_middle_is_refused_and_nothing_changes);
    tcase_add_test(tc, test_a_damaged_last_record_is_not_taken_for_a_torn_one);
    tcase_add_loop_test(tc, test_a_damaged_relog_record_is_not_taken_for_the_end_of_the_log, 0, 2);
    tcase_add_test(tc, test_damaged_or_missing_seals_cost_nothing);
    tcase_add_test(tc, test_a_record_that_recovery_applies_is_sealed_first);
    tcase_add_test(tc, test_skipping_a_damaged_record_replays_all_others);
    tcase_add_test(tc, test_records_are_checked_beyond_their_hash);
    tcase_add_test(tc, test_a_truncated_database_is_refused);
    tcase_add_test(tc, test_the_sidecar_must_be_there_and_be_the_right_one);
    tcase_add_test(tc, test_reading_alone_does_not_recover);
    tcase_add_test(tc, test_a_torn_cursor_loses_to_the_one_before_it);
    tcase_add_test(tc, test_a_damaged_copy_of_the_cursor_costs_nothing);
    tcase_add_test(tc, test_a_damaged_copy_of_the_cursor_does_not_bring_an_earlier_life_back);
    tcase_add_test(tc, test_what_base_holds_already_is_stored_all_the_same);
    tcase_add_test(tc, test_a_transaction_in_scratch_is_durable_with_its_record);
    tcase_add_test(tc, test_a_damaged_page_list_is_refused_and_nothing_changes);
    return db_main(tc, "recovery");
}
