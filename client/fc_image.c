// PNG: ISO/IEC 15948, IHDR. GIF: GIF89a, logical screen. JPEG: ITU-T T.81, B.2.2, the frame header. WebP: RFC 9649.
#include <string.h>

#include "client/fc_image_priv.h"

enum {
    PNG_HEAD_BYTES = 24,
    GIF_HEAD_BYTES = 10,
    WEBP_HEAD_BYTES = 30,
    JPEG_FRAME_BYTES = 9, // up to the width
};

static bool
has_text(struct bytes_view head, size_t at, const char *text)
{
    return head.size >= at + strlen(text) && memcmp(head.data + at, text, strlen(text)) == 0;
}

static uint32_t
load_le16(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static uint32_t
load_le24(const uint8_t *from)
{
    return load_le16(from) | (uint32_t)from[2] << 16;
}

static bool
look_at_png(struct bytes_view head, struct fc_image *out)
{
    if (head.size < PNG_HEAD_BYTES || !has_text(head, 0, "\x89PNG\r\n\x1a\n") || !has_text(head, 12, "IHDR")) {
        return false;
    }
    *out = (struct fc_image){"image/png", bytes_load_be32(head.data + 16), bytes_load_be32(head.data + 20)};
    return true;
}

static bool
look_at_gif(struct bytes_view head, struct fc_image *out)
{
    if (head.size < GIF_HEAD_BYTES || (!has_text(head, 0, "GIF87a") && !has_text(head, 0, "GIF89a"))) {
        return false;
    }
    *out = (struct fc_image){"image/gif", load_le16(head.data + 6), load_le16(head.data + 8)};
    return true;
}

static bool
look_at_webp(struct bytes_view head, struct fc_image *out)
{
    if (head.size < WEBP_HEAD_BYTES || !has_text(head, 0, "RIFF") || !has_text(head, 8, "WEBP")) {
        return false;
    }
    *out = (struct fc_image){.mime_type = "image/webp"};
    if (has_text(head, 12, "VP8X")) {
        out->width_px = load_le24(head.data + 24) + 1;
        out->height_px = load_le24(head.data + 27) + 1;
    } else if (has_text(head, 12, "VP8L")) {
        uint32_t packed = load_le16(head.data + 21) | load_le16(head.data + 23) << 16;
        out->width_px = (packed & 0x3fff) + 1;
        out->height_px = (packed >> 14 & 0x3fff) + 1;
    } else if (has_text(head, 12, "VP8 ")) {
        out->width_px = load_le16(head.data + 26) & 0x3fff;
        out->height_px = load_le16(head.data + 28) & 0x3fff;
    }
    return true;
}

// is_frame: SOF0 to SOF15, which say the size; not DHT, JPG and DAC, which have numbers among them.
static bool
is_frame(uint8_t marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

static bool
look_at_jpeg(struct bytes_view head, struct fc_image *out)
{
    if (!has_text(head, 0, "\xff\xd8\xff")) {
        return false;
    }
    *out = (struct fc_image){.mime_type = "image/jpeg"};
    size_t at = 2;
    while (at + JPEG_FRAME_BYTES <= head.size && head.data[at] == 0xff) {
        uint8_t marker = head.data[at + 1];
        if (is_frame(marker)) {
            out->height_px = bytes_load_be16(head.data + at + 5);
            out->width_px = bytes_load_be16(head.data + at + 7);
            break;
        }
        at += marker == 0xff ? 1 : 2 + (size_t)bytes_load_be16(head.data + at + 2);
    }
    return true;
}

bool
fc_image_look(struct bytes_view head, struct fc_image *out)
{
    return look_at_png(head, out) || look_at_jpeg(head, out) || look_at_gif(head, out) || look_at_webp(head, out);
}
