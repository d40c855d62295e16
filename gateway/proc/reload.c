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

/* Whoever teaches gate or store to take a section from SP_CONTROL_RELOAD turns its `restart` off here. */
static const struct {
    const char *name;
    bool restart; /* takes effect at the next start only */
} sections[] = {
    {"gateway", true}, {"listeners", true}, {"roles", true},    {"attestation", false},
    {"cloud", true},   {"routes", true},    {"commands", true}, {"limits", true},
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

/* The lines of a section in canonical text: from `name:` to the next line that is not indented. */
static struct sp_view section_of(const char *text, const char *name)
{
    size_t len = strlen(name);
    const char *line = text;
    while (line != NULL && *line != '\0') {
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            const char *end = line;
            do {
                end = strchr(end, '\n');
                end = end != NULL ? end + 1 : line + strlen(line);
            } while (*end == ' ');
            return sp_view(line, (size_t)(end - line));
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return (struct sp_view){NULL, 0};
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
        struct sp_view old = section_of(before, sections[i].name);
        struct sp_view new = section_of(after, sections[i].name);
        bool differs = !sp_view_equal(old, new);
        struct sp_view chosen = sections[i].restart ? old : new;
        if (differs && sections[i].restart) {
            sp_log_warn(SP_EVENT("reload_needs_restart"), SP_F_STR("section", sections[i].name));
        } else if (differs) {
            sp_log_info(SP_EVENT("reload_changes"), SP_F_STR("section", sections[i].name));
            *changed = true;
        }
        if (chosen.len > 0) {
            (void)fwrite(chosen.ptr, 1, chosen.len, out);
        }
    }
    return fclose(out) == 0 ? text : NULL;
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
