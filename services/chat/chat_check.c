// What a message for a plain room may say: which fields each type takes, and how large they are.
#include <string.h>

#include "services/chat/chat_messages.h"

static const struct {
    const char *name;
    bool has_text; // has to have
    bool has_target;
    bool takes_file;     // which may replace the text
    bool takes_reply;    // and a topic
    bool takes_mentions; //
    size_t text_max_bytes;
} types[] = {
    [CHAT_MESSAGE_TEXT] = {"a message", true, false, true, true, true, CHAT_TEXT_MAX_BYTES},
    [CHAT_MESSAGE_EMOTE] = {"an emote", true, false, false, true, true, CHAT_TEXT_MAX_BYTES},
    [CHAT_MESSAGE_EDIT] = {"an edit", true, true, false, false, true, CHAT_TEXT_MAX_BYTES},
    [CHAT_MESSAGE_DELETE] = {"a deletion", false, true, false, false, false, 0},
    [CHAT_MESSAGE_REACTION] = {"a reaction", true, true, false, false, false, CHAT_REACTION_MAX_BYTES},
    [CHAT_MESSAGE_UNREACTION] = {"taking back a reaction", true, true, false, false, false, CHAT_REACTION_MAX_BYTES},
};

static enum err
check_text(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    size_t size = strlen(outgoing->text);
    if (size == 0 && types[outgoing->type].has_text && outgoing->file == NULL) {
        return outgoing->type == CHAT_MESSAGE_TEXT
                   ? err_fail(why, ERR_INVALID, "the message is empty; give it text or a file")
                   : err_fail(why, ERR_INVALID, "%s needs text", types[outgoing->type].name);
    }
    if (size > 0 && !types[outgoing->type].has_text) {
        return err_fail(why, ERR_INVALID, "%s has no text", types[outgoing->type].name);
    }
    if (size > types[outgoing->type].text_max_bytes && outgoing->type >= CHAT_MESSAGE_REACTION) {
        return err_fail(why, ERR_INVALID, "a reaction has at most %d bytes, not %zu: an emoji, for example",
            CHAT_REACTION_MAX_BYTES, size);
    }
    if (size > types[outgoing->type].text_max_bytes) {
        return err_fail(why, ERR_INVALID,
            "the message has %zu bytes, the limit is %d; send it in parts, or as a file with fc upload", size,
            CHAT_TEXT_MAX_BYTES);
    }
    return ERR_OK;
}

static enum err
check_numbers(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    const char *name = types[outgoing->type].name;
    if (types[outgoing->type].has_target && (outgoing->target_seq == 0 || outgoing->target_seq > INT64_MAX)) {
        return err_fail(why, ERR_INVALID, "%s needs target_seq, the number of the message that it is about", name);
    }
    if (!types[outgoing->type].has_target && outgoing->target_seq != 0) {
        return err_fail(why, ERR_INVALID, "%s has no target_seq; reply_to_seq answers a message", name);
    }
    if (!types[outgoing->type].takes_reply && (outgoing->reply_to_seq != 0 || outgoing->topic[0] != '\0')) {
        return err_fail(why, ERR_INVALID, "%s stays where its target is: it has neither reply_to_seq nor topic", name);
    }
    if (strlen(outgoing->topic) > CHAT_THREAD_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a message's topic has at most %d bytes, not %zu", CHAT_THREAD_MAX_BYTES,
            strlen(outgoing->topic));
    }
    return ERR_OK;
}

static enum err
check_mentions(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    if (outgoing->mention_count > 0 && !types[outgoing->type].takes_mentions) {
        return err_fail(why, ERR_INVALID, "%s mentions nobody", types[outgoing->type].name);
    }
    if (outgoing->mention_count > CHAT_MENTIONS_MAX) {
        return err_fail(why, ERR_INVALID, "a message mentions at most %d users, not %zu; \"%s\" means everybody",
            CHAT_MENTIONS_MAX, outgoing->mention_count, CHAT_MENTION_EVERYBODY);
    }
    for (size_t i = 0; i < outgoing->mention_count; i++) {
        const char *name = outgoing->mentions[i];
        enum err err = strcmp(name, CHAT_MENTION_EVERYBODY) == 0 ? ERR_OK : text_check_user_name(name, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

// Magic numbers of what programs can be expected to show.
static bool
is_picture(struct bytes_view preview)
{
    return (preview.size > 3 && memcmp(preview.data, "\xff\xd8\xff", 3) == 0) ||
           (preview.size > 8 && memcmp(preview.data, "\x89PNG\r\n\x1a\n", 8) == 0) ||
           (preview.size > 12 && memcmp(preview.data, "RIFF", 4) == 0 && memcmp(preview.data + 8, "WEBP", 4) == 0);
}

static bool
is_mime_type(const char *text)
{
    const char *slash = strchr(text, '/');
    if (slash == NULL || slash == text || slash[1] == '\0') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            return false;
        }
    }
    return true;
}

static enum err
check_file(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    const struct chat_outgoing_file *file = outgoing->file;
    if (file == NULL) {
        return ERR_OK;
    }
    if (!types[outgoing->type].takes_file) {
        return err_fail(why, ERR_INVALID, "%s announces no file", types[outgoing->type].name);
    }
    if (file->file_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "a file's id has %d bytes, not %zu", CHAT_ID_BYTES, file->file_id.size);
    }
    const char *mime_type = file->mime_type == NULL ? "" : file->mime_type;
    if (strlen(mime_type) > CHAT_MIME_TYPE_MAX_BYTES || (mime_type[0] != '\0' && !is_mime_type(mime_type))) {
        return err_fail(why, ERR_INVALID, "that is no MIME type of at most %d bytes, such as image/png",
            CHAT_MIME_TYPE_MAX_BYTES);
    }
    if (file->preview.size > CHAT_PREVIEW_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a preview has at most %d bytes, not %zu", CHAT_PREVIEW_MAX_BYTES,
            file->preview.size);
    }
    if (file->preview.size > 0 && !is_picture(file->preview)) {
        return err_fail(why, ERR_INVALID, "a preview is a JPEG, PNG or WebP picture");
    }
    return ERR_OK;
}

enum err
chat_messages_check(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    // What comes from the wire may be any number.
    if ((int)outgoing->type < 0 || (size_t)outgoing->type >= sizeof(types) / sizeof(types[0])) {
        return err_fail(why, ERR_INVALID, "this server knows no messages of type %d", (int)outgoing->type);
    }
    struct chat_outgoing checked = *outgoing;
    checked.topic = outgoing->topic == NULL ? "" : outgoing->topic;
    enum err err = check_text(&checked, why);
    if (err == ERR_OK) {
        err = check_numbers(&checked, why);
    }
    if (err == ERR_OK) {
        err = check_mentions(&checked, why);
    }
    return err == ERR_OK ? check_file(&checked, why) : err;
}
