#include "cli/cli_qr.h"

#include <errno.h>
#include <qrencode.h>

enum {
    MARGIN = 4, // modules, by the standard
};

static bool
is_dark(const QRcode *code, int x, int y)
{
    return x >= 0 && y >= 0 && x < code->width && y < code->width && (code->data[y * code->width + x] & 1) != 0;
}

enum err
cli_qr_add(struct cli_text *out, const char *text)
{
    // Light modules are drawn, so that it is right on the dark background that most terminals have.
    static const char *const halves[2][2] = {{"\u2588", "\u2580"}, {"\u2584", " "}}; // [top dark][bottom dark]
    QRcode *code = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_M);
    if (code == NULL) {
        return errno == ENOMEM ? ERR_NO_MEMORY : ERR_TOO_BIG;
    }
    for (int y = -MARGIN; y < code->width + MARGIN; y += 2) {
        for (int x = -MARGIN; x < code->width + MARGIN; x++) {
            cli_text_add(out, "%s", halves[is_dark(code, x, y)][is_dark(code, x, y + 1)]);
        }
        cli_text_add(out, "\n");
    }
    QRcode_free(code);
    return ERR_OK;
}
