#!/usr/bin/env python3
"""Makes the engine wrong in one place, so that the explorer can prove that it would notice; and makes it
another way, so that the explorer can prove that that is right, too.

usage: weaken.py list                          NAME FILE PROGRAM... of each weakening, a line each
       weaken.py variants                      NAME right|wrong FILE,... PROGRAM... of each variant
       weaken.py variant NAME FILE ENGINE_DIR OUT.c    one file of it
       weaken.py make NAME ENGINE_DIR OUT.c    the file with the weakening
       weaken.py small ENGINE_DIR OUT.c        writer.c as the explorer compiles it
       weaken.py table                         what each takes away, a line each

Each replaces one text that must stand in its file exactly once: when that code changes, the build
fails here and whoever changes it looks at the weakening, too.
"""
import sys

# name, file, what it takes away, programs in which the explorer must find a violation (any of
# them), then pairs of old and new text.
WEAKENINGS = [
    # Snapshot and publish.
    ("begin_store", "snapshot.c", "snapshot_begin: the slot's store is not sequentially consistent",
     "begin_publish pin_commit begin_retire",
     "atomic_store_explicit(&s->snapshot, txid, memory_order_seq_cst);",
     "atomic_store_explicit(&s->snapshot, txid, memory_order_release);"),
    ("begin_load", "snapshot.c", "snapshot_begin: last_committed is not loaded again",
     "begin_publish pin_commit begin_retire",
     "} while (atomic_load_explicit(&r->header->last_committed, memory_order_seq_cst) != txid);",
     "} while (0);"),
    ("publish_store", "snapshot.c", "snapshot_publish: last_committed is not sequentially consistent",
     "begin_publish pin_commit publish_push",
     "atomic_store_explicit(&r->header->last_committed, txid, memory_order_seq_cst);",
     "atomic_store_explicit(&r->header->last_committed, txid, memory_order_release);",
     "atomic_store_explicit(&r->slots[slot].snapshot, txid, memory_order_seq_cst);",
     "atomic_store_explicit(&r->slots[slot].snapshot, txid, memory_order_release);"),
    ("settle_scan", "commit.c", "commit_settle: the slots are looked at before publishing",
     "begin_publish pin_commit",
     "    scan_take(&s->scan, r, t->slot, false);\n    bool older",
     "    bool older",
     "    snapshot_publish(r, txid, t->size_bytes);",
     "    scan_take(&s->scan, r, t->slot, false);\n    snapshot_publish(r, txid, t->size_bytes);"),
    ("trim_newest", "commit.c", "commit_expose: the newest state is not counted as a snapshot in use",
     "begin_publish pin_kept_commit",
     "scan_take(&s->scan, r, t->slot, true);",
     "scan_take(&s->scan, r, t->slot, false);"),
    ("commit_entry", "snapshot.c", "snapshot_publish: the entry is not invalidated first",
     "newest_size",
     "    atomic_store_explicit(&e->txid, 0, memory_order_relaxed);\n", ""),
    ("commit_entry_check", "snapshot.c", "snapshot_newest: the entry's txid is not compared",
     "newest_size",
     "if (atomic_load_explicit(&e->txid, memory_order_acquire) == txid) {", "{"),

    ("entry_size", "snapshot.c", "snapshot_publish: the entry's size may come before its invalidation",
     "-w newest_size",
     "atomic_store_explicit(&e->size_bytes, size_bytes, memory_order_release);",
     "atomic_store_explicit(&e->size_bytes, size_bytes, memory_order_relaxed);"),

    # Pin and zap.
    ("pin_store_short", "pin.c", "pin_take_base: the pin's store is not sequentially consistent",
     "pin_push_rehome",
     "atomic_store_explicit(&own->pins[entry], pin_of_base(page, 1), memory_order_seq_cst);",
     "atomic_store_explicit(&own->pins[entry], pin_of_base(page, 1), memory_order_release);"),
    ("pin_load_short", "pin.c", "pin_take_base: the word is not loaded again",
     "pin_push_rehome",
     "if (pageword_load(&s->region, page) == w)", "if (w)"),
    ("pin_store", "pin.c", "pin_take: the pin's store is not sequentially consistent",
     "pin_version_commit pin_commit_two old_pin_rehome chain_walk",
     "atomic_store_explicit(&own->pins[entry], pin, memory_order_seq_cst);",
     "atomic_store_explicit(&own->pins[entry], pin, memory_order_release);"),
    ("pin_load", "pin.c", "pin_take: the words are not loaded again",
     "pin_version_commit pin_commit_two old_pin_rehome chain_walk",
     "same &= pageword_load(&s->region, page + i) == words[i];", "same &= words[i] != 0;"),
    ("zap_store", "pageword.c", "pageword_set: the word's store is not sequentially consistent",
     "pin_rehome copy_rehome pin_retire old_pin_rehome",
     "        /* Fails where a reader has set a flag in between: that flag is kept. */\n"
     "    } while (!atomic_compare_exchange_weak_explicit(&r->words[page], &raw, next,\n"
     "                                                    memory_order_seq_cst, memory_order_relaxed));",
     "    } while (0);\n"
     "    atomic_store_explicit(&r->words[page], next, memory_order_release);"),
    ("settle_pins", "commit.c", "commit_may_apply: pins of base are not looked at",
     "own_pin kept_own_pin",
     "    if (s->scan.pin_count && scan_base_pinned(&s->scan, p->page))\n        return false;\n    if (!older)",
     "    if (!older)"),
    ("settle_unseen", "commit.c", "commit_may_apply: who sees what base holds is not looked at again",
     "kept_pin kept_copy",
     "    if (!chain_base_unseen(s, p->page, txid, &s->scan))\n        return false;\n", "    (void)txid;\n"),
    ("settle_older", "commit.c", "commit_settle: old snapshots' versions are dropped with the marker",
     "kept_old",
     "!(older ? chain_rebase(s, p->page, txid, p->marker, &s->scan)",
     "!(0 ? chain_rebase(s, p->page, txid, p->marker, &s->scan)"),
    ("unseen_marker", "chain.c", "chain_base_unseen: base is taken for the oldest version",
     "kept_pin kept_copy",
     "while (node && chain_storage(r, node) != NODE_BASE) {", "while (node) {"),
    ("rebase_trim", "chain.c", "chain_rebase: a second marker stays in the chain",
     "kept_read",
     "    if (!chain_trim(s, page, scan))\n        return false;\n    return chain_older", "    (void)scan;\n    return chain_older"),
    ("rehome_scan", "rehome.c", "rehome_batch: the slots are looked at before the zap only",
     "pin_rehome copy_rehome old_pin_rehome",
     "    struct region *r = &s->region;\n    scan_take(&s->scan, r, UINT32_MAX, true);\n", 
     "    struct region *r = &s->region;\n"),
    ("retire_pins", "checkpoint.c", "checkpoint_retire_pages: pins are not looked at",
     "own_pin_retire",
     "if (s->scan.pin_count && scan_page_pinned(&s->scan, r, page)) {", "if (0) {"),
    ("retire_snapshots", "checkpoint.c", "checkpoint_retire_pages: old snapshots are not looked at",
     "pin_retire begin_retire",
     "if (scan_sees(&s->scan, 1, GUARDED_GET(g->shrink_txid)))", "if (0)"),
    ("reclaim_scan", "frames.c", "frames_reclaim: nobody looks for pins of the nodes",
     "pin_rehome_reuse",
     "    scan_take(s, r, self, false);\n", "    s->pin_count = 0;\n    (void)self;\n"),
    ("trim_generation", "chain.c", "chain_trim: no new generation when a version is dropped",
     "chain_middle",
     "if (!pageword_set(r, page, pageword_state(w), pageword_node(w)))", "if (0)"),
    ("generation", "pageword.c", "pageword_set: the generation stays",
     "pin_node_again",
     "pageword_generation(w) + 1;", "pageword_generation(w);"),
    ("node_first", "rehome.c", "rehome_save_base: the node is linked before it is filled",
     "old_pin_rehome chain_rehome",
     "    bool flagged = pageword_load(r, page) & PAGEWORD_POISONED;\n",
     "    bool flagged = pageword_load(r, page) & PAGEWORD_POISONED;\n"
     "    atomic_store_explicit(&r->nodes[newer].older, node, memory_order_release);\n"),
    ("node_link", "rehome.c", "rehome_save_base: the link to the node may come before its content",
     "-w old_pin_rehome chain_rehome",
     "atomic_store_explicit(&r->nodes[newer].older, node, memory_order_release);",
     "atomic_store_explicit(&r->nodes[newer].older, node, memory_order_relaxed);"),
    ("save_base", "rehome.c", "rehome_zap: base is not saved for old snapshots",
     "old_pin_rehome old_pin_reuse",
     "if (!b->marker || !rehome_save_base(s, page, head, &unreadable)) {",
     "(void)rehome_save_base;\n    if (!b->marker) {"),

    # The fences after stores into base.
    ("fence_settle", "commit.c", "commit_settle: no fence between the lines and the words",
     "pin_commit copy_commit",
     "    /* Before a reader that sees the words below loads what was stored above. */\n"
     "    persist_visible(&s->persist);\n", ""),
    ("fence_expose", "commit.c", "commit_expose: no fence between the lines and the words",
     "logged_growth",
     "        return true;\n    persist_visible(&s->persist);\n", "        return true;\n"),
    ("fence_rehome", "rehome.c", "rehome_batch: no fence between the lines and the words",
     "pin_rehome copy_rehome",
     "    persist_visible(&s->persist);\n", ""),

    # Tidying.
    ("tidy_store", "conn.c", "conn_tidy: the flag is set after the lock was tried",
     "tidy tidy_locked",
     "    atomic_store(&s->region.header->tidy_wanted, 1);\n"
     "    if (writer_trylock(&s->region, c->slot))\n        conn_unlock_writer(c);",
     "    bool got = writer_trylock(&s->region, c->slot);\n"
     "    atomic_store(&s->region.header->tidy_wanted, 1);\n    if (got)\n        conn_unlock_writer(c);"),
    ("unlock_store", "writer.c", "writer_unlock: the lock's store is not sequentially consistent",
     "tidy tidy_locked",
     "uint32_t w = atomic_exchange(&r->header->writer, 0);",
     "uint32_t w = atomic_load(&r->header->writer);\n"
     "    if (w & WRITER_WAITERS)\n        w = atomic_exchange(&r->header->writer, 0);\n    else\n"
     "        atomic_store_explicit(&r->header->writer, 0, memory_order_release);"),
    ("unlock_load", "conn.c", "conn_unlock_writer: the flag is not loaded again",
     "tidy tidy_locked",
     "} while (atomic_load(&h->tidy_wanted) && writer_trylock(&s->region, c->slot));",
     "} while (0);"),
    ("end_store", "snapshot.c", "snapshot_end: the slot's store is not sequentially consistent",
     "tidy tidy_commit pin_commit",
     "atomic_store_explicit(&r->slots[slot].snapshot, 0, memory_order_seq_cst);",
     "atomic_store_explicit(&r->slots[slot].snapshot, 0, memory_order_release);"),
    ("limbo_store", "frames.c", "frames_reclaim: the count is not seen before the pins are looked for",
     "tidy_pin pin_rehome_home",
     "    atomic_store_explicit(&g->limbo_count, GUARDED_GET(g->limbo_count), memory_order_seq_cst);\n",
     ""),
    ("heads_order", "rehome.c", "rehome_finish: the count of versions is 0 in between",
     "tidy tidy_locked",
     "    if (b->marker)\n        chain_link_head(r, b->marker);\n    chain_unlink_head(r, b->head);\n",
     "    chain_unlink_head(r, b->head);\n    if (b->marker)\n        chain_link_head(r, b->marker);\n"),

    # Pages that are bad.
    ("repair_scan", "media_repair.c", "media_zap: nobody looks for pins",
     "bad_repair_pin",
     "    if (!scan_base_pinned(&s->scan, page))\n        return DAX_OK;\n",
     "    if (s)\n        return DAX_OK;\n"),
    ("repair_unzap", "media_repair.c", "media_zap: a page that is pinned stays zapped",
     "bad_repair_pin",
     "    if (*zapped_out && !pageword_set(r, page, PAGE_MAPPED, pageword_node(w)))", "    if (0)"),
    ("copy_pin", "conn.c", "conn_read_page: the pin is dropped before the page is flagged",
     "bad_copy_repair bad_copy_cleared",
     "        rc = media_fault(s, page, &fault, err);\n    pin_drop(s, c->slot, CONN_COPY_PIN);\n",
     "    {\n        pin_drop(s, c->slot, CONN_COPY_PIN);\n"
     "        rc = media_fault(s, page, &fault, err);\n    }\n"
     "    pin_drop(s, c->slot, CONN_COPY_PIN);\n"),
    ("scrub_pin", "media_find.c", "conn_media_probe: the page is not pinned",
     "bad_scrub_repair bad_scrub_rehome",
     "    dax_rc rc = pin_take_storage(s, c->slot, DAX_SLOT_PINS_SHARED, page, err);\n",
     "    dax_rc rc = pageword_load(&s->region, page) & PAGEWORD_POISONED ? media_error(s, page, err)\n"
     "                                                                    : DAX_OK;\n"),
    ("scrub_pin_store", "pin.c", "pin_take_storage: the pin's store is not sequentially consistent",
     "bad_scrub_repair bad_scrub_rehome",
     "atomic_store_explicit(&own->pins[entry], storage, memory_order_seq_cst);",
     "atomic_store_explicit(&own->pins[entry], storage, memory_order_release);"),
    ("scrub_pin_load", "pin.c", "pin_take_storage: the word is not compared",
     "bad_scrub_repair bad_scrub_rehome",
     "        if (again == w)\n", "        if (again)\n"),
    ("enter_flag", "media.c", "media_enter: the page is flagged after the lock",
     "bad_mark_repair bad_copy_cleared",
     "        media_flag(s, page, bytes);\n    pthread_mutex_unlock(&m->lock);\n",
     "    {\n        pthread_mutex_unlock(&m->lock);\n        media_flag(s, page, bytes);\n"
     "        return;\n    }\n    pthread_mutex_unlock(&m->lock);\n"),
    ("close_flag", "media.c", "media_close_good: the flag goes after the lock",
     "bad_mark_repair",
     "    pageword_flag(&s->region, page, 0, PAGEWORD_POISONED);\n"
     "    pthread_mutex_unlock(&s->media->lock);\n",
     "    pthread_mutex_unlock(&s->media->lock);\n"
     "    pageword_flag(&s->region, page, 0, PAGEWORD_POISONED);\n"),
    ("flag_kept", "pageword.c", "pageword_set: a flag that was set in between is lost",
     "bad_mark_commit",
     "        /* Fails where a reader has set a flag in between: that flag is kept. */\n"
     "    } while (!atomic_compare_exchange_weak_explicit(&r->words[page], &raw, next,\n"
     "                                                    memory_order_seq_cst, memory_order_relaxed));",
     "    } while (0);\n"
     "    atomic_store_explicit(&r->words[page], next, memory_order_seq_cst);"),
    ("pin_flag", "pin.c", "pin_look: the flag is not looked at",
     "bad_damaged_pin",
     "if (w & PAGEWORD_POISONED && v.storage == NODE_BASE)", "if (0)"),
    ("pin_flag_short", "pin.c", "pin_take_base: the flag is not looked at",
     "bad_damaged_pin",
     "if (!pageword_is_base(w, probe))", "if (!pageword_is_base(w & ~PAGEWORD_POISONED, probe))"),
    ("probe_first", "pin.c", "pin_probe: the page is said to be probed before it is",
     "bad_pins",
     "        struct guard_fault fault;\n        if (!guard_probe(",
     "        struct guard_fault fault;\n"
     "        pageword_flag(&s->region, page + i, PAGEWORD_PROBED, 0);\n        if (!guard_probe("),
    ("probe_cut", "pageword.c", "pageword_set: a page that was cut off stays probed",
     "bad_cut_grow",
     "        if (to == PAGE_ABSENT)", "        if (0)"),
    ("apply_flag", "commit.c", "commit_apply: the flag is not looked at",
     "bad_damaged_commit",
     "    if (pageword_load(&s->region, p->page) & PAGEWORD_POISONED)\n        return false;\n", ""),
    ("rehome_flag", "rehome.c", "rehome_store: the flag is not looked at",
     "bad_damaged_rehome",
     "    if (!(pageword_load(&s->region, b->page) & PAGEWORD_POISONED)) {", "    {"),
    ("save_flag", "rehome.c", "rehome_save_base: the flag is not looked at",
     "bad_old_damaged",
     "    bool flagged = pageword_load(r, page) & PAGEWORD_POISONED;", "    bool flagged = false;"),
    ("rescue_pin", "media_signal.c", "media_rescue: the page need not be pinned",
     "bad_given_back",
     "s->base.read_only || !scan_base_pinned_now(&s->region, page))", "s->base.read_only)"),
    ("rescue_again", "media_signal.c", "media_copy_of: the frame is not looked at again",
     "bad_rescue_reuse",
     "            if (atomic_fetch_add(&r->nodes[node].storage, 0) != NODE_COPY)\n"
     "                return false;\n"
     "            return frames_is_copy(r, node, page, w) && pageword_load(r, page) == w;",
     "            return true;"),
    ("rescue_one", "media_signal.c", "media_rescue: two threads at once",
     "bad_rescue_two",
     "    while (atomic_exchange_explicit(&m->rescuing, 1, memory_order_acquire))\n"
     "        cpu_relax();\n", ""),
    ("take_copy", "frames.c", "frames_take: the frame may be stored to before it is no copy any more",
     "-w bad_rescue_reuse",
     "(void)atomic_exchange(&n->storage, NODE_FRAME);", "GUARDED_SET(n->storage, NODE_FRAME);"),
    ("trim_copy", "frames.c", "frames_trim: its memory may go before it is no copy any more",
     "-w bad_rescue_trim",
     "(void)atomic_exchange(&r->nodes[batch[i]].storage, NODE_FRAME);",
     "GUARDED_SET(r->nodes[batch[i]].storage, NODE_FRAME);"),

    # Slots, scratch.
    ("claim_flag", "snapshot.c", "snapshot_claim_slot: the flag is looked at, then stored",
     "claim_two",
     "if (!atomic_compare_exchange_strong_explicit(&slot->claimed, &expected, 1,\n"
     "                                                     memory_order_acquire, memory_order_relaxed))\n"
     "            continue;",
     "if (atomic_load(&slot->claimed) != expected)\n            continue;\n"
     "        atomic_store(&slot->claimed, 1);"),
    ("claim_high", "snapshot.c", "snapshot_claim_slot: slot_high is looked at, then stored",
     "claim_two",
     "while (high <= i && !atomic_compare_exchange_weak(&r->header->slot_high, &high, i + 1))\n"
     "            ;",
     "if (high <= i)\n            atomic_store(&r->header->slot_high, i + 1);"),
    ("scratch_pins", "checkpoint.c", "checkpoint_drop_scratch: versions that are left are not counted",
     "scratch",
     "GUARDED_GET(g->scratch_nodes) != 0 ||", "0 ||"),

    # The lock.
    ("lock_bit", "writer.c", "writer_lock: who slept does not keep the sleepers' bit",
     "lock lock_timeouts",
     "(slot + 1) | WRITER_WAITERS,", "slot + 1,"),
    ("lock_recheck", "writer.c", "writer_lock: the bit is stored, not exchanged for the word it was seen in",
     "lock lock_timeouts",
     "if (!(w & WRITER_WAITERS) &&\n"
     "            !atomic_compare_exchange_strong_explicit(word, &w, w | WRITER_WAITERS,\n"
     "                                                     memory_order_relaxed, memory_order_relaxed))\n"
     "            continue;",
     "if (!(w & WRITER_WAITERS))\n            atomic_store(word, w | WRITER_WAITERS);"),
    ("lock_pass_on", "writer.c", "writer_lock: who gives up does not wake the next one",
     "lock_timeouts",
     "            if (slept && w == 0)\n                writer_futex(word, FUTEX_WAKE, 1, NULL);\n", ""),
    ("lock_pass_bit", "writer.c", "writer_lock: who gives up does not put the sleepers' bit back",
     "lock_timeouts",
     "            while (slept && w != 0 && !atomic_compare_exchange_weak(word, &w, w | WRITER_WAITERS))\n"
     "                ;\n", ""),

    # Turns.
    ("turn_flag", "writer.c", "writer_unlock: nobody looks whether somebody waits for its turn",
     "turn turn_two",
     "if (atomic_load(&r->header->turn_wanted) == WANTED_NOW)\n        writer_pass_on", "if (0)\n        writer_pass_on"),
    ("turn_early", "writer.c", "writer_unlock: the flag is looked at before the lock is released",
     "turn turn_two",
     "    writer_release(r);\n    /* A Dekker pair",
     "    bool wanted = atomic_load(&r->header->turn_wanted) == WANTED_NOW;\n    writer_release(r);\n"
     "    /* A Dekker pair",
     "if (atomic_load(&r->header->turn_wanted) == WANTED_NOW)\n        writer_pass_on",
     "if (wanted)\n        writer_pass_on"),
    ("turn_clear", "writer.c", "writer_give: the flag is cleared after the turns were looked at",
     "turn_two turn_timeouts",
     "        atomic_store(&h->turn_wanted, WANTED_NO);\n", "",
     "        if (to == UINT32_MAX)\n            return false;\n",
     "        atomic_store(&h->turn_wanted, WANTED_NO);\n        if (to == UINT32_MAX)\n            return false;\n"),
    ("turn_others", "writer.c", "writer_give: the flag stays cleared though others wait",
     "turn_two turn_commits",
     "        if (others)\n", "        if (0)\n"),
    ("turn_claim", "writer.c", "writer_claim: nobody asks whether the hold was stolen",
     "turn_steal turn_timeouts",
     "return writer_change(r, (slot + 1) | WRITER_SOFT, slot + 1);",
     "atomic_store(&r->header->writer, slot + 1);\n    return true;"),
    ("turn_take_back", "writer.c", "writer_give: the hold of one who has given up is not taken back",
     "turn_timeouts",
     "        if (!writer_change(r, (to + 1) | WRITER_SOFT, slot + 1))\n            return true;",
     "        return true;"),
    ("turn_bit", "writer.c", "writer_change: who sleeps on the lock is forgotten",
     "turn_two turn_steal",
     "to | (w & WRITER_WAITERS))", "to)"),
    ("turn_hard", "writer.c", "writer_sleep_for_lock: a hard hold is stolen, too",
     "lock_timeouts turn_timeouts",
     "return w & WRITER_SOFT && (at_end ||", "return (at_end ||"),
    ("turn_greedy", "writer.c", "writer_lock: a soft hold is stolen at once",
     "turn_commit",
     "return w & WRITER_SOFT && (at_end ||", "return w & WRITER_SOFT && (1 || at_end ||"),
    ("turn_snapshot", "conn.c", "conn_begin_read_in_turn: the snapshot is taken before the turn comes",
     "turn_commit",
     "        conn_await_turn(c);\n",
     "    {\n        dax_rc rc = conn_begin_read(c, err);\n        conn_await_turn(c);\n        return rc;\n    }\n"),
    ("turn_end", "conn.c", "conn_end_turn: a hold that was not used is not given back",
     "turn_read turn_tidy",
     "if (c->soft && writer_claim(r, c->slot)) {", "if (0) {"),
]


# membarrier(2) in place of the reader's fence. The pin is stored relaxed, with a compiler barrier before
# the word is loaded again; whoever reclaims has every running thread pass a barrier between its zap and
# its look at the slots: a pin that is not seen then was stored after that barrier, and so the load after
# it finds the zap.
RELAXED = [
    ("pin.c",
     "atomic_store_explicit(&own->pins[entry], pin_of_base(page, 1), memory_order_seq_cst);",
     "atomic_store_explicit(&own->pins[entry], pin_of_base(page, 1), memory_order_relaxed);\n"
     "    atomic_signal_fence(memory_order_seq_cst);"),
    ("pin.c",
     "atomic_store_explicit(&own->pins[entry], pin, memory_order_seq_cst);",
     "atomic_store_explicit(&own->pins[entry], pin, memory_order_relaxed);\n"
     "        atomic_signal_fence(memory_order_seq_cst);"),
    ("pin.c",
     "atomic_store_explicit(&own->pins[entry], storage, memory_order_seq_cst);",
     "atomic_store_explicit(&own->pins[entry], storage, memory_order_relaxed);\n"
     "        atomic_signal_fence(memory_order_seq_cst);"),
]
FIRST = "    s->snapshot_count = 0;\n    s->pin_count = 0;\n    uint32_t high"
LAST = "    if (add_newest)\n        s->snapshots"

# The scans that need it. Not the first of rehome_all, whose pins nobody looks at; of commit_expose, whose
# pins are a guess that commit_settle checks; of commit_settle and checkpoint_retire_pages, since who can have a pin there that matters is in an
# older snapshot, which is seen, or has committed itself since it took the pin. (That of frames_reclaim is
# behind rehome_batch's wherever a node can be pinned in these programs, so that none shows it to be needed.)
SCANS = {
    "rehome": ("rehome.c",
               "    scan_take(&s->scan, r, UINT32_MAX, true);\n    for (size_t i = 0; i < n; i++) {"),
    "reclaim": ("frames.c", "    scan_take(s, r, self, false);\n"),
    "repair": ("media_repair.c",
               "    scan_take(&s->scan, r, UINT32_MAX, true);\n    if (!scan_base_pinned"),
}


def sparing(but=None):
    return RELAXED + [(file, text, "    il_membarrier();\n" + text)
                      for name, (file, text) in SCANS.items() if name != but]


PINS = ("pin_commit pin_commit_two copy_commit pin_version_commit pin_kept_commit pin_rehome copy_rehome "
        "old_pin_rehome old_pin_reuse pin_push_rehome pin_rehome_reuse pin_node_again chain_middle own_pin "
        "kept_old kept_two kept_end kept_read kept_rehome kept_own_pin "
        "chain_walk chain_rehome begin_publish own_pin_retire pin_retire begin_retire retire_grow scratch "
        "scratch_old tidy_pin pin_rehome_home publish_push two_readers reader_checkpoints bad_copy_repair "
        "bad_scrub_repair bad_scrub_rehome bad_pin_rehome bad_repair_pin bad_rescue_commit "
        "bad_rescue_rehome bad_cut_grow")

FEWER = " ".join(p for p in PINS.split() if p not in (
    "begin_publish", "retire_grow", "two_readers", "reader_checkpoints", "publish_push", "scratch_old"))

# name, is it right, (file, old text, new text)..., programs: of a right one all must pass, of a wrong one
# some must not.
VARIANTS = [
    ("membarrier", "right", RELAXED + [("scan.c", FIRST, "    il_membarrier();\n" + FIRST)], PINS),
    ("membarrier_weak", "right", RELAXED + [("scan.c", FIRST, "    il_membarrier();\n" + FIRST)],
     "-w pin_commit pin_rehome old_pin_rehome chain_middle pin_retire bad_scrub_rehome bad_repair_pin"),
    # Nobody else in a snapshot: nobody else has a pin.
    ("membarrier_others", "right",
     RELAXED + [("scan.c", FIRST,
                 "    if (scan_others_active(r, skip))\n        il_membarrier();\n" + FIRST)], FEWER),
    ("membarrier_scans", "right", sparing(), FEWER),
    ("membarrier_none", "wrong", RELAXED, "pin_push_rehome"),
    ("membarrier_late", "wrong", RELAXED + [("scan.c", LAST, "    il_membarrier();\n" + LAST)],
     "pin_push_rehome old_pin_rehome"),
    ("membarrier_begin", "wrong",
     RELAXED + [("scan.c", FIRST,
                 "    if (scan_others_active(r, skip))\n        il_membarrier();\n" + FIRST),
                ("snapshot.c", "atomic_store_explicit(&s->snapshot, txid, memory_order_seq_cst);",
                 "atomic_store_explicit(&s->snapshot, txid, memory_order_relaxed);\n"
                 "        atomic_signal_fence(memory_order_seq_cst);")],
     "begin_publish pin_commit begin_retire"),
    ("membarrier_no_rehome", "wrong", sparing("rehome"), "pin_push_rehome"),
    ("membarrier_no_repair", "wrong", sparing("repair"), "bad_repair_pin"),
]


def find(name):
    for w in WEAKENINGS:
        if w[0] == name:
            return w
    sys.exit(f"no weakening {name}")


def variant_files(v):
    files = []
    for file, _, _ in v[2]:
        if file not in files:
            files.append(file)
    return files


def make_variant(name, file, engine, out):
    v = next((v for v in VARIANTS if v[0] == name), None) or sys.exit(f"no variant {name}")
    with open(f"{engine}/{file}", encoding="utf-8") as f:
        text = f.read()
    for _, old, new in (change for change in v[2] if change[0] == file):
        if text.count(old) != 1:
            sys.exit(f"{file}: {text.count(old)} times, not once:\n{old}\n({name} in weaken.py)")
        text = text.replace(old, new)
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)


def make(name, engine, out):
    w = find(name)
    with open(f"{engine}/{w[1]}", encoding="utf-8") as f:
        text = f.read()
    for old, new in zip(w[4::2], w[5::2]):
        if text.count(old) != 1:
            sys.exit(f"{w[1]}: {text.count(old)} times, not once:\n{old}\n"
                     f"({name} in weaken.py: {w[2]})")
        text = text.replace(old, new)
    if w[1] == "writer.c":
        text = small(text)
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)


def small(text):
    """writer.c that goes to sleep at once: the explorer's threads do not gain from spinning."""
    if text.count("#define WRITER_SPINS 64\n") != 1:
        sys.exit("writer.c: WRITER_SPINS is not what weaken.py takes it for")
    return text.replace("#define WRITER_SPINS 64\n", "#define WRITER_SPINS 1\n")


def make_small(engine, out):
    with open(f"{engine}/writer.c", encoding="utf-8") as f:
        text = small(f.read())
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)


def main():
    if sys.argv[1:2] == ["list"]:
        for w in WEAKENINGS:
            print(w[0], w[1], w[3])
    elif sys.argv[1:2] == ["table"]:
        for w in WEAKENINGS:
            print(f"| {w[0]} | {w[2]} |")
    elif sys.argv[1:2] == ["make"] and len(sys.argv) == 5:
        make(*sys.argv[2:5])
    elif sys.argv[1:2] == ["variants"]:
        for v in VARIANTS:
            print(v[0], v[1], ",".join(variant_files(v)), v[3])
    elif sys.argv[1:2] == ["variant"] and len(sys.argv) == 6:
        make_variant(*sys.argv[2:6])
    elif sys.argv[1:2] == ["small"] and len(sys.argv) == 4:
        make_small(*sys.argv[2:4])
    else:
        sys.exit(__doc__)


main()
