/* media_names.h: what media errors are called: the table or index that an unreadable page belongs to.
 *
 * The engine enters an error and knows only its page. Whoever comes along next with a connection to
 * the store gives the entry its name, logs it, and calls the application's callback.
 */
#ifndef DAX_VFS_MEDIA_NAMES_H
#define DAX_VFS_MEDIA_NAMES_H

#include "engine/media.h"
#include "vfs/file.h"
#include "vfs/owner_map.h"

/* Once per process: 0 or an errno. */
int media_names_init(void);

/* Name and report every entry of f's store that has no name. Returns how many were reported by this
 * call. What cannot be named for want of memory stays as it is, for a later call. f has a connection,
 * and no engine call of it is running; outside of signal handlers. */
unsigned media_names_settle(struct file *f);

/* The same where there is no error at hand: one relaxed load if nothing is to be done. */
void media_names_look(struct file *f);

/* The words for an entry. Each text is cut to what its field in the entry holds. */
struct media_words {
    char type[sizeof((struct media_entry *)0)->type];
    char name[sizeof((struct media_entry *)0)->name];
    char role[sizeof((struct media_entry *)0)->role];
    char detail[sizeof((struct media_entry *)0)->detail];
    char phrase[512]; /* all of it in one: table "orders", leaf page 8841 */
};

/* Words for an entry of the database's part by a map; map NULL: its owner is not known, since why. */
void media_words_of_base(const struct media_entry *e, const struct owner_map *map, const char *why,
                         struct media_words *out);

/* The log line. sidecar: the entry is of the file `path`-dax. */
void media_names_line(const char *path, const struct media_entry *e, const char *phrase, char *buf,
                      size_t room);

#endif
