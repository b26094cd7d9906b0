/* arrive.h: what has been stored and is not durable, and which of it has arrived.
 */
#ifndef DAX_CRASH_ARRIVE_H
#define DAX_CRASH_ARRIVE_H

#include "trace.h"

struct arrive;

/* One after the other, the states that are possible. */
struct arrive_plan {
    uint64_t exhaustive, samples, random;
    unsigned phase;
    uint64_t next; /* within the phase */
};

struct arrive *arrive_begin(const struct trace *t);
void arrive_end(struct arrive *a);

/* The operation has been executed: new items, or items that are certain now and go to the image. */
void arrive_op(struct arrive *a, size_t op);

void arrive_plan(struct arrive *a, struct arrive_plan *p, uint64_t exhaustive, uint64_t samples,
                 uint64_t random);
/* The next one; false: no more. */
bool arrive_next(struct arrive *a, struct arrive_plan *p);
/* Put it into the image. */
void arrive_apply(const struct arrive *a);

/* Is this a place where the mark, a name or a size is not durable? Then everything is checked. */
bool arrive_wants_all(const struct arrive *a);

/* For people: what of the uncertain has arrived. */
size_t arrive_describe(const struct arrive *a, char *buf, size_t bytes);

#endif
