#include "cli/tui_work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "cli/tui_work_priv.h"

enum {
    JOBS_MAX = 1000, // more than somebody types while a server is away
    STEP_MS = 20,    // of waiting for the thread
};

struct tui_job *
tui_job_new(enum tui_job_kind kind, const char *room, const uint8_t *room_id, const char *text)
{
    struct tui_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return NULL;
    }
    job->kind = kind;
    if (room != NULL) {
        (void)snprintf(job->room, sizeof job->room, "%s", room);
    }
    if (room_id != NULL) {
        memcpy(job->room_id, room_id, sizeof job->room_id);
    }
    if (text != NULL && (job->text = strdup(text)) == NULL) {
        free(job);
        return NULL;
    }
    return job;
}

void
tui_job_free(struct tui_job **job)
{
    if (*job != NULL) {
        free((*job)->text);
        free(*job);
        *job = NULL;
    }
}

static bool
is_near(enum tui_job_kind kind)
{
    return kind <= TUI_JOB_SEARCH;
}

// is_covered tells that doing `there` does what `job` asks for.
static bool
is_covered(const struct tui_job *job, struct tui_job *there)
{
    if (there->kind != job->kind || memcmp(there->room_id, job->room_id, sizeof job->room_id) != 0) {
        return false;
    }
    switch (job->kind) {
    case TUI_JOB_ROOMS:
    case TUI_JOB_NEWEST:
    case TUI_JOB_OLDER:
    case TUI_JOB_TYPING:
    case TUI_JOB_CONNECT:
    case TUI_JOB_REFRESH:
    case TUI_JOB_FLUSH:
        return true;
    case TUI_JOB_ONE:
        return there->seq == job->seq;
    case TUI_JOB_READ:
        there->seq = there->seq > job->seq ? there->seq : job->seq;
        return true;
    case TUI_JOB_SEARCH:
    case TUI_JOB_SEND:
    case TUI_JOB_JOIN:
    case TUI_JOB_LEAVE:
    case TUI_JOB_CREATE:
    case TUI_JOB_DM:
    case TUI_JOB_INVITE:
    case TUI_JOB_TOPIC:
    case TUI_JOB_MEMBERS:
    case TUI_JOB_VERIFY:
        return false;
    }
    return false;
}

enum err
tui_work_add(struct tui_work *work, struct tui_job *job)
{
    if (job == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&work->mutex);
    struct tui_job **end = is_near(job->kind) ? &work->locked.near : &work->locked.far;
    bool is_done = false;
    for (; *end != NULL && !is_done; end = &(*end)->next) {
        is_done = is_covered(job, *end);
    }
    bool is_full = !is_done && work->locked.count >= JOBS_MAX;
    if (!is_done && !is_full) {
        *end = job;
        work->locked.count++;
        job = NULL;
        pthread_cond_signal(&work->has_job);
    }
    pthread_mutex_unlock(&work->mutex);
    tui_job_free(&job);
    return is_full ? ERR_LIMIT : ERR_OK;
}

static struct tui_job *
pop(struct tui_work *work, struct tui_job **list)
{
    struct tui_job *job = *list;
    if (job != NULL) {
        *list = job->next;
        job->next = NULL;
        work->locked.count--;
    }
    return job;
}

// pop_message takes the next one that must not be lost.
static struct tui_job *
pop_message(struct tui_work *work)
{
    struct tui_job **at = &work->locked.far;
    while (*at != NULL && (*at)->kind != TUI_JOB_SEND) {
        at = &(*at)->next;
    }
    return pop(work, at);
}

// take waits for a job, or until it is time to tend; NULL then. *is_stopping_out: there will be no more.
static struct tui_job *
take(struct tui_work *work, bool *is_stopping_out)
{
    struct timespec until = {.tv_sec = (time_t)(work->next_try_ms / 1000),
        .tv_nsec = (long)(work->next_try_ms % 1000) * 1000000};
    struct tui_job *job = NULL;
    int waited = 0;
    pthread_mutex_lock(&work->mutex);
    while (waited != ETIMEDOUT && !work->locked.is_stopping && work->locked.count == 0) {
        waited = pthread_cond_timedwait(&work->has_job, &work->mutex, &until);
    }
    *is_stopping_out = work->locked.is_stopping;
    if (work->locked.is_stopping) {
        job = pop_message(work);
    } else {
        job = pop(work, work->locked.near != NULL ? &work->locked.near : &work->locked.far);
    }
    work->locked.is_sending = job != NULL && job->kind == TUI_JOB_SEND;
    pthread_mutex_unlock(&work->mutex);
    return job;
}

static void *
run(void *context)
{
    struct tui_work *work = context;
    bool is_stopping = false;
    for (;;) {
        struct tui_job *job = take(work, &is_stopping);
        if (job != NULL) {
            tui_job_run(work, job);
            tui_job_free(&job);
        } else if (is_stopping) {
            break;
        }
        if (!is_stopping && clock_monotonic_ms() >= work->next_try_ms) {
            tui_work_tend(work);
        }
    }
    fc_chat_follow_end(&work->follower);
    atomic_store(&work->is_finished, true);
    return NULL;
}

// warn shows what the chat has found out.
static void
warn(void *context, const char *warning)
{
    struct tui_work *work = context;
    struct tui_event *event = tui_event_new(TUI_EVENT_NOTE, NULL, warning);
    if (event != NULL) {
        event->code = ERR_UNTRUSTED;
    }
    tui_events_post(work->events, event);
}

static enum err
find_own_name(struct tui_work *work, struct err_detail *why)
{
    struct fc_account account;
    enum err code = ERR_OK;
    const char *name = fc_session_user_name(work->session);
    if (name[0] == '\0') {
        code = fc_session_who_am_i(work->session, &account, why);
        name = account.user_name;
    }
    if (code == ERR_OK) {
        (void)snprintf(work->own_name, sizeof work->own_name, "%s", name);
    }
    return code;
}

static void
init_locks(struct tui_work *work)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&work->has_job, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&work->mutex, NULL);
}

static void
free_jobs(struct tui_job **list)
{
    while (*list != NULL) {
        struct tui_job *next = (*list)->next;
        tui_job_free(list);
        *list = next;
    }
}

static void
free_work(struct tui_work *work)
{
    fc_chat_close(&work->chat);
    free_jobs(&work->locked.near);
    free_jobs(&work->locked.far);
    free(work->followed);
    pthread_cond_destroy(&work->has_job);
    pthread_mutex_destroy(&work->mutex);
    free(work);
}

enum err
tui_work_start(struct fc_session *session, struct tui_events *events, struct tui_work **out, struct err_detail *why)
{
    struct tui_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        return ERR_NO_MEMORY;
    }
    work->session = session;
    work->events = events;
    init_locks(work);
    struct fc_chat_options options = {.warn = warn, .context = work};
    enum err code = find_own_name(work, why);
    if (code == ERR_OK) {
        code = fc_chat_open(session, &options, &work->chat, why);
    }
    if (code == ERR_OK) {
        code = thread_start(&work->thread, "fc-chat-work", run, work);
    }
    if (code != ERR_OK) {
        free_work(work);
        return code;
    }
    *out = work;
    return ERR_OK;
}

const char *
tui_work_own_name(const struct tui_work *work)
{
    return work->own_name;
}

struct fc_chat *
tui_work_chat(struct tui_work *work)
{
    return work->chat;
}

bool
tui_work_stop(struct tui_work **work_ptr, uint64_t patience_ms)
{
    struct tui_work *work = *work_ptr;
    if (work == NULL) {
        return true;
    }
    tui_events_close(work->events);
    pthread_mutex_lock(&work->mutex);
    work->locked.is_stopping = true;
    pthread_cond_signal(&work->has_job);
    pthread_mutex_unlock(&work->mutex);
    uint64_t until_ms = clock_monotonic_ms() + patience_ms;
    while (!atomic_load(&work->is_finished)) {
        if (clock_monotonic_ms() >= until_ms) {
            return false;
        }
        struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
        (void)nanosleep(&step, NULL);
    }
    (void)pthread_join(work->thread, NULL);
    free_work(work);
    *work_ptr = NULL;
    return true;
}

bool
tui_work_has_messages(struct tui_work *work)
{
    pthread_mutex_lock(&work->mutex);
    bool has = work->locked.is_sending;
    for (const struct tui_job *job = work->locked.far; job != NULL && !has; job = job->next) {
        has = job->kind == TUI_JOB_SEND;
    }
    pthread_mutex_unlock(&work->mutex);
    return has;
}
