#include "tools/collect/service_state.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAID_MAX = 4096 };

extern char **environ;

/* What systemctl writes to standard output; false with errno 0 where it fails. */
static bool ask_systemctl(char said[SAID_MAX])
{
    char command[] = "systemctl", verb[] = "show", what[] = "--property=Id,LoadState,ActiveState,UnitFileState,Result",
         timer[] = "quotemill-collect.timer", service[] = "quotemill-collect.service";
    char *argv[] = {command, verb, what, timer, service, NULL};
    posix_spawn_file_actions_t actions;
    int pipe_fd[2], status = 0;
    size_t len = 0;
    pid_t pid;
    said[0] = '\0';
    if (pipe2(pipe_fd, O_CLOEXEC) != 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int sys = posix_spawnp(&pid, command, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fd[1]);
    for (ssize_t n = 1; sys == 0 && n != 0 && len < SAID_MAX - 1;) {
        n = read(pipe_fd[0], said + len, SAID_MAX - 1 - len);
        if (n < 0 && errno != EINTR)
            break;
        len += n > 0 ? (size_t)n : 0;
    }
    close(pipe_fd[0]);
    said[len] = '\0';
    if (sys == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    errno = sys;
    return sys == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Is there a line KEY=VALUE in the paragraph that text begins with? */
static bool says(const char *text, const char *line)
{
    const char *end = strstr(text, "\n\n");
    const size_t len = strlen(line);
    for (const char *p = text; p != NULL && p < (end != NULL ? end : text + strlen(text)); p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, line, len) == 0 && (p[len] == '\n' || p[len] == '\0'))
            return true;
    }
    return false;
}

void qm_service_check(struct qm_doctor *d)
{
    static const char check[] = "service", look[] = "journalctl -u quotemill-collect.service says why";
    char said[SAID_MAX];
    if (!ask_systemctl(said)) {
        qm_doctor_say(d, check, QM_HEALTH_WARN, "see that something else calls quotemill-collect once, cron for example",
                      errno == ENOENT ? "there is no systemctl here" : "systemd does not answer");
        return;
    }
    const char *service = strstr(said, "\n\n");
    service = service != NULL ? service + 2 : "";
    if (says(said, "LoadState=not-found"))
        qm_doctor_say(d, check, QM_HEALTH_WARN, "install the units, or see that something else calls quotemill-collect once",
                      "there is no quotemill-collect.timer");
    else if (!says(said, "ActiveState=active"))
        qm_doctor_say(d, check, QM_HEALTH_FAIL, "systemctl enable --now quotemill-collect.timer", "the timer does not run");
    else if (says(service, "ActiveState=failed") || !says(service, "Result=success"))
        qm_doctor_say(d, check, QM_HEALTH_FAIL, look, "the last call failed");
    else if (!says(said, "UnitFileState=enabled"))
        qm_doctor_say(d, check, QM_HEALTH_WARN, "systemctl enable quotemill-collect.timer",
                      "the timer runs, but not after the next boot");
    else
        qm_doctor_say(d, check, QM_HEALTH_PASS, NULL, "the timer runs, and the last call went well");
}
