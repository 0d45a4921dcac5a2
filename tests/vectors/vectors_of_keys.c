// Vectors of single values and of keys.

#include <string.h>

#include "e2e/e2e_message_priv.h"
#include "e2e/e2e_seal_priv.h"
#include "e2e_vectors.h"

static void
write_seal_one(struct vector_json *json, const char *label, struct bytes_view context, struct bytes_view plain)
{
    uint8_t secret[E2E_SECRET_BYTES];
    uint8_t salt[E2E_SALT_BYTES];
    uint8_t key[E2E_MESSAGE_KEY_BYTES];
    uint8_t derived[E2E_SECRET_BYTES];
    struct bytes sealed = {0};
    fill(secret, sizeof(secret), 0);
    fill(salt, sizeof(salt), 0xa0);
    MUST(e2e_seal_with_salt(secret, label, context, salt, plain, &sealed));
    MUST(e2e_seal_key(secret, label, context, bytes_as_view(&sealed), key));
    MUST(e2e_derive(secret, label, context, derived));
    vector_json_begin(json, NULL, '{');
    vector_json_hex(json, "secret", secret, sizeof(secret));
    vector_json_text(json, "label", label);
    vector_json_view(json, "context", context);
    vector_json_hex(json, "salt", salt, sizeof(salt));
    vector_json_view(json, "plain", plain);
    vector_json_hex(json, "key_nonce_commitment", key, sizeof(key));
    vector_json_view(json, "sealed", bytes_as_view(&sealed));
    vector_json_hex(json, "derived", derived, sizeof(derived));
    vector_json_end(json, '}');
    bytes_free(&sealed);
}

void
write_seal(struct vector_json *json)
{
    uint8_t long_plain[200];
    fill(long_plain, sizeof(long_plain), 7);
    vector_json_begin(json, "vectors", '[');
    write_seal_one(json, E2E_LABEL_MESSAGE, bytes_view_of_text("header"), bytes_view_of_text("hello"));
    write_seal_one(json, E2E_LABEL_IDENTITY, bytes_view_of_text(""), bytes_view_of_text(""));
    write_seal_one(json, E2E_LABEL_LINK_INFO, bytes_view_of(long_plain, 16),
        bytes_view_of(long_plain, sizeof(long_plain)));
    vector_json_end(json, ']');
}

static void
write_hpke_one(struct vector_json *json, const char *ephemeral_hex, const char *receiver_hex, const char *info,
    const char *aad, const char *plain)
{
    uint8_t ephemeral[CRYPTO_KEY_BYTES];
    uint8_t receiver[CRYPTO_KEY_BYTES];
    uint8_t receiver_public[CRYPTO_KEY_BYTES];
    uint8_t enc[E2E_WRAP_ENC_BYTES];
    struct bytes ciphertext = {0};
    MUST(bytes_from_hex(ephemeral_hex, ephemeral, sizeof(ephemeral)));
    MUST(bytes_from_hex(receiver_hex, receiver, sizeof(receiver)));
    MUST(crypto_box_public(receiver, receiver_public));
    MUST(e2e_hpke_seal_with_ephemeral(ephemeral, receiver_public, bytes_view_of_text(info), bytes_view_of_text(aad),
        bytes_view_of_text(plain), enc, &ciphertext));
    vector_json_begin(json, NULL, '{');
    vector_json_hex(json, "ephemeral_private", ephemeral, sizeof(ephemeral));
    vector_json_hex(json, "receiver_private", receiver, sizeof(receiver));
    vector_json_hex(json, "receiver_public", receiver_public, sizeof(receiver_public));
    vector_json_view(json, "info", bytes_view_of_text(info));
    vector_json_view(json, "aad", bytes_view_of_text(aad));
    vector_json_view(json, "plain", bytes_view_of_text(plain));
    vector_json_hex(json, "enc", enc, sizeof(enc));
    vector_json_view(json, "ciphertext", bytes_as_view(&ciphertext));
    vector_json_end(json, '}');
    bytes_free(&ciphertext);
}

void
write_hpke(struct vector_json *json)
{
    vector_json_begin(json, "vectors", '[');
    // The inputs of RFC 9180, A.1.1.
    write_hpke_one(json, "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
        "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8", "Ode on a Grecian Urn", "Count-0",
        "Beauty is truth, truth beauty");
    write_hpke_one(json, "0101010101010101010101010101010101010101010101010101010101010101",
        "0202020202020202020202020202020202020202020202020202020202020202", "", "", "");
    vector_json_end(json, ']');
}

static void
write_keys(struct vector_json *json, struct bytes_view secret, const char *label)
{
    struct e2e_keys keys;
    MUST(e2e_keys_derive(secret, label, &keys));
    vector_json_begin(json, "keys", '{');
    vector_json_hex(json, "id", keys.id, sizeof(keys.id));
    vector_json_hex(json, "sign_private", keys.sign_private, sizeof(keys.sign_private));
    vector_json_hex(json, "sign_public", keys.sign_public, sizeof(keys.sign_public));
    vector_json_hex(json, "box_private", keys.box_private, sizeof(keys.box_private));
    vector_json_hex(json, "box_public", keys.box_public, sizeof(keys.box_public));
    vector_json_end(json, '}');
}

void
write_link_keys(struct vector_json *json)
{
    vector_json_text(json, "label", E2E_LABEL_LINK_KEYS);
    vector_json_begin(json, "vectors", '[');
    for (uint8_t first = 0; first < 2; first++) {
        uint8_t secret[E2E_SECRET_BYTES];
        fill(secret, sizeof(secret), first);
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "secret", secret, sizeof(secret));
        write_keys(json, bytes_view_of(secret, sizeof(secret)), E2E_LABEL_LINK_KEYS);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
}

// `text` as people might type it, too.
static void
write_typed(struct vector_json *json, const char *text)
{
    char typed[E2E_RECOVERY_TEXT_BYTES];
    size_t size = 0;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '-') {
            char lower = (char)(*from >= 'A' ? *from - 'A' + 'a' : *from);
            typed[size++] = (char)(lower == '0' ? 'o' : lower == '1' ? 'l' : lower);
        }
    }
    typed[size] = '\0';
    vector_json_text(json, "typed", typed);
    typed[size - 1] = typed[size - 1] == '2' ? '3' : '2';
    vector_json_text(json, "mistyped", typed);
}

void
write_recovery(struct vector_json *json)
{
    vector_json_text(json, "label", E2E_LABEL_RECOVERY_DEVICE);
    vector_json_begin(json, "vectors", '[');
    for (unsigned i = 0; i < 3; i++) {
        uint8_t key[E2E_RECOVERY_KEY_BYTES] = {0};
        char text[E2E_RECOVERY_TEXT_BYTES];
        if (i > 0) {
            fill(key, sizeof(key), i == 1 ? 1 : 0xe0);
        }
        MUST(e2e_recovery_format(key, text));
        vector_json_begin(json, NULL, '{');
        vector_json_hex(json, "key", key, sizeof(key));
        vector_json_text(json, "text", text);
        write_typed(json, text);
        write_keys(json, bytes_view_of(key, sizeof(key)), E2E_LABEL_RECOVERY_DEVICE);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
}

void
write_safety_number(struct vector_json *json)
{
    vector_json_begin(json, "vectors", '[');
    for (uint8_t i = 0; i < 2; i++) {
        struct e2e_user users[2] = {{.seq = 1}, {.seq = 1}};
        char number[E2E_SAFETY_NUMBER_BYTES];
        vector_json_begin(json, NULL, '{');
        vector_json_begin(json, "users", '[');
        for (uint8_t user = 0; user < 2; user++) {
            fill(users[user].id, E2E_ID_BYTES, (uint8_t)(0x10 * (2 * i + user)));
            fill(users[user].identity_key, CRYPTO_KEY_BYTES, (uint8_t)(0x80 + i + 7 * user));
            vector_json_begin(json, NULL, '{');
            vector_json_hex(json, "user_id", users[user].id, E2E_ID_BYTES);
            vector_json_hex(json, "identity_key", users[user].identity_key, CRYPTO_KEY_BYTES);
            vector_json_end(json, '}');
        }
        vector_json_end(json, ']');
        MUST(e2e_user_safety_number(&users[0], &users[1], number));
        vector_json_text(json, "number", number);
        vector_json_end(json, '}');
    }
    vector_json_end(json, ']');
}
