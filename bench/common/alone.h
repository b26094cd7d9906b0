/* alone.h: a stretch of one thread that nothing else of this machine interrupts.
 *
 * Between alone_begin and alone_end the calling thread stays on one core and has real-time priority, if
 * the process may ask for that (root, or RLIMIT_RTPRIO). Others then take neither time nor the core's
 * caches from it: a stretch that is cut into slices finds its data in the cache of the next level, which
 * costs most whoever has most of it there. It is the same for every subject. For stretches of one thread
 * only, and of a few seconds: the kernel gives everybody else on that core at least 5 % of each second.
 * Set-up and threads that run beside each other are not measured like this.
 *
 * Does nothing, and is no error, where it is not permitted or DAX_BENCH_SHARED is in the environment
 * (bench_start puts it there for --tiny, whose times mean nothing): bench/run says in its document which it
 * was. The two calls do not nest.
 */
#ifndef BENCH_ALONE_H
#define BENCH_ALONE_H

void alone_begin(void);
void alone_end(void);

#endif
