/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * SIGHUP. The new file is read whole and checked; a fault changes nothing. What cannot change under a running gateway keeps
 * its old text, the rest gets the new one, and the children are handed the result: so a child never sees a section
 * change that it was promised would stay.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/parent_internal.h"

#define OTHERS_MAX 2U

/*
 * What waits for the next start. `others` are the keys, directly in the section, for which the contrary holds. To make one
 * change at run time, gate and store have to take it from SP_CONTROL_RELOAD (sp_home_configure(),
 * sp_uplink_configure()).
 */
static const struct {
    const char *name;
    bool restart;
    const char *others[OTHERS_MAX];
    const char *waits; /* which part waits, for the log */
} sections[] = {
    {"gateway", true, {NULL, NULL}, "all of it"},
    {"listeners", true, {NULL, NULL}, "all of it"},
    {"roles", false, {NULL, NULL}, NULL},
    {"attestation", false, {NULL, NULL}, NULL},
    {"cloud", true, {"limits", NULL}, "all but limits"},
    {"routes", false, {NULL, NULL}, NULL},
    {"commands", false, {NULL, NULL}, NULL},
    {"fusions", false, {NULL, NULL}, NULL},
    {"limits", false, {"packet", "connections"}, "packet, connections"},
};

static char *print(const struct sp_config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    sp_config_print(config, out);
    return fclose(out) == 0 ? text : NULL;
}

/* The end of the block that begins at `line`: the next line that is not indented deeper. */
static const char *block_end(const char *line, const char *end)
{
    size_t indent = strspn(line, " ");
    do {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        line = next != NULL ? next + 1 : end;
    } while (line < end && strspn(line, " ") > indent);
    return line;
}

static bool names(const char *line, const char *name)
{
    size_t len = strlen(name);
    line += strspn(line, " ");
    return strncmp(line, name, len) == 0 && line[len] == ':';
}

/* The block `name:` among those that begin at the same depth as the first line of `text`. Empty: there is none. */
static struct sp_view block_of(struct sp_view text, const char *name)
{
    const char *line = (const char *)text.ptr;
    const char *end = line + text.len;
    while (line < end) {
        const char *next = block_end(line, end);
        if (names(line, name)) {
            return sp_view(line, (size_t)(next - line));
        }
        line = next;
    }
    return sp_view(NULL, 0);
}

/* The lines below the first one of a section. */
static struct sp_view inside(struct sp_view section)
{
    const uint8_t *line = section.len > 0 ? memchr(section.ptr, '\n', section.len) : NULL;
    return line != NULL ? sp_view_from(section, (size_t)(line + 1 - section.ptr))
                        : sp_view(NULL, 0);
}

static void put(FILE *out, struct sp_view text)
{
    if (text.len > 0) {
        (void)fwrite(text.ptr, 1, text.len, out);
    }
}

/* Write `base`, with those blocks in it that are named by `others` as they stand in `other`, where it has them. */
static void mix(FILE *out, struct sp_view base, struct sp_view other, const char *const *others)
{
    struct sp_view rest = inside(base);
    put(out, sp_view_first(base, base.len - rest.len));
    while (rest.len > 0) {
        const char *line = (const char *)rest.ptr;
        struct sp_view block =
            sp_view_first(rest, (size_t)(block_end(line, line + rest.len) - line));
        struct sp_view theirs = sp_view(NULL, 0);
        for (size_t i = 0; i < OTHERS_MAX && others[i] != NULL; i++) {
            if (names(line, others[i])) {
                theirs = block_of(inside(other), others[i]);
            }
        }
        put(out, theirs.len > 0 ? theirs : block);
        rest = sp_view_from(rest, block.len);
    }
}

static bool log_section(size_t i, struct sp_view chosen, struct sp_view old, struct sp_view new)
{
    if (!sp_view_equal(chosen, new)) {
        sp_log_warn(SP_EVENT("reload_needs_restart"), SP_F_STR("section", sections[i].name),
                    SP_F_STR("waits", sections[i].waits));
    }
    if (sp_view_equal(chosen, old)) {
        return false;
    }
    sp_log_info(SP_EVENT("reload_changes"), SP_F_STR("section", sections[i].name));
    return true;
}

/* Old text of what must stay, new text of the rest; says in the log what changes. */
static char *merge(const char *before, const char *after, bool *changed)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    *changed = false;
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        struct sp_view old = block_of(sp_view_str(before), sections[i].name);
        struct sp_view new = block_of(sp_view_str(after), sections[i].name);
        size_t start = len;
        mix(out, sections[i].restart ? old : new, sections[i].restart ? new : old,
            sections[i].others);
        if (fflush(out) != 0) {
            break;
        }
        *changed |= log_section(i, sp_view(text + start, len - start), old, new);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* A descriptor of its own for each reader, so that none moves another's place in the file. */
static int text_fd(const char *text)
{
    size_t len = strlen(text);
    int fd = memfd_create("sallyport.yaml", MFD_CLOEXEC);
    if (fd >= 0 && (write(fd, text, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static void log_faults(char *faults)
{
    char *rest = faults;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        if (line[0] != '\0') {
            sp_log_error(SP_EVENT("config_fault"), SP_F_STR("fault", line));
        }
    }
}

static void take_over(struct sp_parent *parent, const char *text, struct sp_config *config)
{
    sp_config_destroy(parent->reloaded);
    parent->reloaded = config;
    parent->config = config;
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        int fd = text_fd(text);
        if (fd < 0) {
            sp_log_error(SP_EVENT("reload_failed"), SP_F_ERRNO(errno));
            return;
        }
        sp_children_tell(parent, (enum sp_process)p,
                         &(struct sp_control){.type = SP_CONTROL_RELOAD}, fd);
        close(fd);
    }
}

/* From the file on disk to the configuration that is to be in force; NULL: nothing changes, and the log says why. */
static struct sp_config *read_anew(const struct sp_parent *parent, FILE *faults, char **text)
{
    struct sp_config *file = NULL;
    struct sp_config *merged = NULL;
    bool changed = false;
    if (sp_config_load(parent->config->file, faults, &file) != SP_OK) {
        return NULL;
    }
    char *before = print(parent->config);
    char *after = print(file);
    *text = before != NULL && after != NULL ? merge(before, after, &changed) : NULL;
    if (*text != NULL && changed) {
        int fd = text_fd(*text);
        if (fd >= 0) {
            if (sp_config_load_fd(fd, parent->config->file, faults, &merged) != SP_OK) {
                (void)fputs("the changes fit only together with those that need a restart\n",
                            faults);
            }
            close(fd);
        }
    }
    free(before);
    free(after);
    sp_config_destroy(file);
    return merged;
}

void sp_parent_reload(struct sp_parent *parent)
{
    char *faults = NULL;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&faults, &len);
    if (out == NULL) {
        sp_log_error(SP_EVENT("reload_failed"), SP_F_ERRNO(errno));
        return;
    }
    struct sp_config *config = read_anew(parent, out, &text);
    (void)fclose(out);
    if (config != NULL) {
        take_over(parent, text, config);
        sp_log_info(SP_EVENT("reloaded"));
    } else if (len > 0) {
        log_faults(faults);
        sp_log_error(SP_EVENT("reload_refused"), SP_F_STR("file", parent->config->file));
    } else {
        sp_log_info(SP_EVENT("reload_changes_nothing"));
    }
    free(faults);
    free(text);
}
