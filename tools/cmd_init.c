/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/keys/registry.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

static const char help[] =
    "sallyport init: a new gateway home, ready to run on this machine\n"
    "\n"
    "  sallyport init DIR\n"
    "\n"
    "DIR is made, or may be an empty directory. In it, for its owner only:\n"
    "  sallyport.yaml   the configuration, with comments: a listener on 127.0.0.1:8883, no cloud "
    "yet\n"
    "  registry.db      the device registry, empty\n"
    "  master.key       the key that encrypts the keys in the registry. Keep a copy in a safe "
    "place:\n"
    "                   without it every device has to be provisioned anew\n"
    "\n"
    "Nothing is ever overwritten. Next:\n"
    "  sallyport device add ID --role sensor --bundle ID.json -c DIR/sallyport.yaml\n"
    "  sallyport run -c DIR/sallyport.yaml\n";

static const char template_head[] = "# Sallyport: an attesting gateway between TLS-PSK devices and "
                                    "the cloud. See sallyport.yaml(5).\n"
                                    "# After a change: sallyport check -c FILE, then SIGHUP; the "
                                    "log says what waits for a restart.\n"
                                    "\n"
                                    "gateway:\n"
                                    "  id: ";
static const char template_tail[] =
    "\n"
    "  state_dir: .                     # registry, journal, control socket: beside this file\n"
    "  threads: 0                       # 0 = one per core\n"
    "\n"
    "listeners:\n"
    "  - address: 127.0.0.1:8883        # \"0.0.0.0:8883\" and \"[::]:8883\" for devices "
    "elsewhere\n"
    "    suites: [profile-small]        # also: forward-secret, all, or single suites by their "
    "IANA names\n"
    "\n"
    "# roles:                           # sensor and monitor are built in\n"
    "#   client: { publish: [\"#\"], subscribe: [\"#\"], retain: true, shared_subscriptions: true "
    "}\n"
    "\n"
    "attestation:\n"
    "  reattest_interval: 1h\n"
    "  lifecycle: [secured]\n"
    "\n"
    "# The way out. Take the comment signs off and fill in yours.\n"
    "# cloud:\n"
    "#   endpoint: xxxx-ats.iot.eu-west-1.amazonaws.com:8883   # port 443 switches ALPN on\n"
    "#   ca: AmazonRootCA1.pem          # files are looked for beside this one\n"
    "#   certificate: gateway.crt\n"
    "#   key: gateway.key\n"
    "#   limits: aws                    # keep AWS IoT Core's quotas on our side\n"
    "#\n"
    "# routes:                          # devices to cloud; the first that matches decides\n"
    "#   - from: dt/+/climate\n"
    "#     cloud: dt/sallyport/{gateway}/{device}/climate\n"
    "#     format: json                 # raw | senml-json | json\n"
    "#     qos: 1\n"
    "#   - from: dt/#\n"
    "#     cloud: dt/sallyport/{gateway}/{rest}\n"
    "#\n"
    "# commands:                        # cloud to devices\n"
    "#   - cloud: cmd/sallyport/{gateway}/#\n"
    "#     to: cmd/{rest}\n";

/* An empty folder, made or found, that nobody else can look into. */
static bool prepare_folder(const char *path)
{
    if (mkdir(path, 0700) == 0) {
        return true;
    }
    DIR *folder = errno == EEXIST ? opendir(path) : NULL;
    if (folder == NULL) {
        (void)sp_tool_error(SP_EXIT_FAILED, "init", "%s: %s", path, strerror(errno));
        return false;
    }
    bool empty = true;
    for (const struct dirent *e = readdir(folder); e != NULL; e = readdir(folder)) {
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    }
    bool ok = empty && fchmod(dirfd(folder), 0700) == 0;
    (void)closedir(folder);
    if (!empty) {
        (void)sp_tool_error(SP_EXIT_FAILED, "init",
                            "%s is not empty, and nothing is overwritten: name a new directory",
                            path);
    } else if (!ok) {
        (void)sp_tool_error(SP_EXIT_FAILED, "init", "%s: %s", path, strerror(errno));
    }
    return ok;
}

/* This machine's name, where it can be a gateway's. */
static void choose_id(char out[HOST_NAME_MAX + 1])
{
    if (gethostname(out, HOST_NAME_MAX + 1) != 0 || !sp_link_identity_valid(sp_view_str(out))) {
        (void)snprintf(out, HOST_NAME_MAX + 1, "gw-1");
    }
}

static bool write_config(const char *path)
{
    char id[HOST_NAME_MAX + 1];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    choose_id(id);
    bool ok = file != NULL && fputs(template_head, file) >= 0 && fputs(id, file) >= 0 &&
              fputs(template_tail, file) >= 0 && fflush(file) == 0 && fsync(fd) == 0;
    if (file != NULL) {
        ok = fclose(file) == 0 && ok;
    }
    if (!ok) {
        (void)sp_tool_error(SP_EXIT_FAILED, "init", "%s: %s", path, strerror(errno));
    }
    return ok;
}

int sp_cmd_init(int argc, char **argv)
{
    static const struct sp_option none[] = {{.name = NULL}};
    const char *folder;
    char config[PATH_MAX];
    char key[PATH_MAX];
    struct sp_fault fault = {0};
    int status = sp_options_read(argc, argv, none, NULL, help, &folder);
    if (status >= 0) {
        return status;
    }
    if (folder == NULL) {
        return sp_tool_error(SP_EXIT_USAGE, "init", "where? Name a directory to be made");
    }
    if (snprintf(config, sizeof(config), "%s/sallyport.yaml", folder) >= (int)sizeof(config) ||
        snprintf(key, sizeof(key), "%s/master.key", folder) >= (int)sizeof(key)) {
        return sp_tool_error(SP_EXIT_FAILED, "init", "the path is too long");
    }
    if (!prepare_folder(folder)) {
        return SP_EXIT_FAILED;
    }
    if (sp_registry_create(folder, key, &fault) != SP_OK) {
        return sp_tool_error(SP_EXIT_FAILED, "init", "%s", fault.text);
    }
    if (!write_config(config)) {
        return SP_EXIT_FAILED;
    }
    printf("%s is ready. Keep a copy of %s in a safe place.\nNext:\n"
           "  sallyport device add dev1 --role sensor --bundle dev1.json -c %s\n"
           "  sallyport run -c %s\n",
           folder, key, config, config);
    return SP_EXIT_DONE;
}
