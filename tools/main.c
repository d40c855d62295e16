/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* `sallyport`: one program, a table of subcommands. */
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/cmd_token.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"init", sp_cmd_init, "make a new gateway home, ready to run on this machine"},
    {"check", sp_cmd_check, "read a configuration and name every fault"},
    {"run", sp_cmd_run, "run the gateway, in the foreground"},
    {"reload", sp_cmd_reload, "make the running gateway take up a new configuration or program"},
    {"device", sp_cmd_device,
     "say who may connect: add, list, show, revoke, restore, rotate, remove"},
    {"group", sp_cmd_group,
     "say under which keys records are sealed: add, list, rotate, remove, export"},
    {"record", sp_cmd_record, "open a protected record with the keys of its group"},
    {"reference", sp_cmd_reference, "say which software is trusted: add, list, remove"},
    {"token", sp_cmd_token, "look at attestation tokens: verify, show, make"},
    {"status", sp_cmd_status, "see what the running gateway is doing"},
    {"journal", sp_cmd_journal, "see what is kept for the cloud: list, dead-letters"},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
    (void)fputs("sallyport: an attesting gateway between TLS-PSK devices and the cloud\n\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(out, "  sallyport %-10s %s\n", commands[i].name, commands[i].about);
    }
    (void)fputs(
        "\n"
        "  sallyport COMMAND --help    what a command does, and its options\n"
        "  sallyport --version\n"
        "\n"
        "A first gateway:\n"
        "  sallyport init home\n"
        "  sallyport device add dev1 --role sensor --bundle dev1.json -c home/sallyport.yaml\n"
        "  sallyport run -c home/sallyport.yaml\n"
        "\n"
        "Exit status: 0 done or accepted, 1 refused or failed, 2 wrong usage.\n",
        out);
}

/* Letters that two words share at the start, and as many at the end. */
static size_t likeness(const char *a, const char *b)
{
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);
    size_t shorter = a_len < b_len ? a_len : b_len;
    size_t start = 0;
    size_t end = 0;
    while (start < shorter && a[start] == b[start]) {
        start++;
    }
    while (start + end < shorter && a[a_len - 1U - end] == b[b_len - 1U - end]) {
        end++;
    }
    return start + end;
}

static int unknown_command(const char *word)
{
    size_t best = 1; /* one letter in common says nothing */
    const char *nearest = NULL;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        size_t alike = likeness(word, commands[i].name);
        if (alike > best) {
            best = alike;
            nearest = commands[i].name;
        }
    }
    (void)fprintf(stderr, "sallyport: no command `%s`", word);
    if (nearest != NULL) {
        (void)fprintf(stderr, ": did you mean `%s`?", nearest);
    }
    (void)fputs(" See sallyport --help\n", stderr);
    return SP_EXIT_USAGE;
}

/* `sallyport help CMD` is `sallyport CMD --help`. */
static int help_on(char *command)
{
    char option[] = "--help";
    char *words[] = {command, option, NULL};
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(command, commands[i].name) == 0) {
            return commands[i].run(2, words);
        }
    }
    return unknown_command(command);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return SP_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("sallyport %s\n", SP_VERSION);
        return SP_EXIT_DONE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
        (strcmp(word, "help") == 0 && argc < 3)) {
        print_help(stdout);
        return SP_EXIT_DONE;
    }
    if (strcmp(word, "help") == 0) {
        return help_on(argv[2]);
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return unknown_command(word);
}
