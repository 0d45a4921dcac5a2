// Rows are decoded one at a time and added up into the preview's, so that a large picture needs little memory.
#include "client/fc_preview_priv.h"

#ifndef FC_HAS_PREVIEWS

bool
fc_preview_make(int fd, uint64_t size, const struct fc_image *image, struct bytes *out)
{
    (void)fd;
    (void)size;
    (void)image;
    (void)out;
    return false;
}

#else

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

#include "base/file.h"
#include "client/fc_jpeg_priv.h"

enum {
    RGB = 3,
    FILE_MAX_BYTES = 64 * 1024 * 1024,
    SIDE_MAX_PX = 32 * 1024,
    PIXELS_MAX = 100 * 1000 * 1000,
    MEMORY_MAX_BYTES = 64 * 1024 * 1024, // of a decoder: progressive pictures are held whole
    WHITE = 255,
};

// shrink adds up rows of a picture.
struct shrink {
    uint32_t width; // of what comes
    uint32_t height;
    uint32_t row; // that comes next
    uint32_t to_width;
    uint32_t to_height;
    uint32_t *sums; // RGB of each pixel of the preview
    uint32_t *counts;
    uint8_t *pixels; // the preview, when it is done
    uint8_t *input;  // a row of what comes, where the decoder has none
};

static void
shrink_free(struct shrink *shrink)
{
    free(shrink->sums);
    free(shrink->counts);
    free(shrink->pixels);
    free(shrink->input);
}

static bool
shrink_init(struct shrink *shrink, uint32_t width, uint32_t height)
{
    uint32_t longer = width > height ? width : height;

    if (width == 0 || height == 0 || longer > SIDE_MAX_PX || (uint64_t)width * height > PIXELS_MAX) {
        return false;
    }
    shrink->width = width;
    shrink->height = height;
    shrink->to_width = width;
    shrink->to_height = height;
    if (longer > FC_PREVIEW_SIDE_PX) {
        shrink->to_width = width * FC_PREVIEW_SIDE_PX / longer;
        shrink->to_height = height * FC_PREVIEW_SIDE_PX / longer;
        shrink->to_width += shrink->to_width == 0;
        shrink->to_height += shrink->to_height == 0;
    }
    size_t pixels = (size_t)shrink->to_width * shrink->to_height;
    shrink->sums = calloc(pixels, RGB * sizeof(shrink->sums[0]));
    shrink->counts = calloc(pixels, sizeof(shrink->counts[0]));
    shrink->pixels = calloc(pixels, RGB);
    return shrink->sums != NULL && shrink->counts != NULL && shrink->pixels != NULL;
}

// shrink_add takes a row of RGB, or of RGBA on white.
static void
shrink_add(struct shrink *shrink, const uint8_t *row, unsigned channels)
{
    uint32_t to_row = (uint32_t)((uint64_t)shrink->row * shrink->to_height / shrink->height);

    for (uint32_t x = 0; x < shrink->width; x++) {
        size_t to = (size_t)to_row * shrink->to_width + (size_t)((uint64_t)x * shrink->to_width / shrink->width);
        const uint8_t *pixel = row + (size_t)x * channels;
        uint32_t alpha = channels > RGB ? pixel[RGB] : WHITE;
        for (unsigned c = 0; c < RGB; c++) {
            shrink->sums[to * RGB + c] += (pixel[c] * alpha + WHITE * (WHITE - alpha)) / WHITE;
        }
        shrink->counts[to]++;
    }
    shrink->row++;
}

static void
shrink_finish(struct shrink *shrink)
{
    size_t pixels = (size_t)shrink->to_width * shrink->to_height;

    for (size_t i = 0; i < pixels * RGB; i++) {
        uint32_t count = shrink->counts[i / RGB];
        shrink->pixels[i] = (uint8_t)(count != 0 ? shrink->sums[i] / count : WHITE);
    }
}

// turn makes the preview look as the file says that it has to be turned: 1 to 8, as EXIF has it.
static bool
turn(struct shrink *shrink, unsigned orientation)
{
    uint32_t width = shrink->to_width;
    uint32_t height = shrink->to_height;
    bool is_across = orientation >= 5;
    uint32_t new_width = is_across ? height : width;
    uint8_t *turned = orientation > 1 ? malloc((size_t)width * height * RGB) : NULL;

    if (orientation <= 1) {
        return true;
    }
    if (turned == NULL) {
        return false;
    }
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            bool is_mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
            bool is_upside_down = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
            uint32_t to_x = is_mirrored ? width - 1 - x : x;
            uint32_t to_y = is_upside_down ? height - 1 - y : y;
            size_t to = is_across ? (size_t)to_x * new_width + to_y : (size_t)to_y * new_width + to_x;
            memcpy(turned + to * RGB, shrink->pixels + ((size_t)y * width + x) * RGB, RGB);
        }
    }
    free(shrink->pixels);
    shrink->pixels = turned;
    shrink->to_width = new_width;
    shrink->to_height = is_across ? width : height;
    return true;
}

// --- JPEG -----------------------------------------------------------------------------------------------------------

struct jpeg_trouble {
    struct jpeg_error_mgr base; // first
    jmp_buf out;
};

static void
on_jpeg_error(j_common_ptr info)
{
    struct jpeg_trouble *trouble = (struct jpeg_trouble *)info->err;
    longjmp(trouble->out, 1);
}

static void
on_jpeg_message(j_common_ptr info)
{
    (void)info;
}

static struct jpeg_error_mgr *
watch_jpeg(struct jpeg_trouble *trouble)
{
    (void)jpeg_std_error(&trouble->base);
    trouble->base.error_exit = on_jpeg_error;
    trouble->base.output_message = on_jpeg_message;
    return &trouble->base;
}

static void
decode_rows(struct jpeg_decompress_struct *info, struct shrink *shrink)
{
    JSAMPARRAY row = info->mem->alloc_sarray((j_common_ptr)info, JPOOL_IMAGE, info->output_width * RGB, 1);

    while (info->output_scanline < info->output_height) {
        (void)jpeg_read_scanlines(info, row, 1);
        shrink_add(shrink, row[0], RGB);
    }
}

static bool
decode_jpeg(const uint8_t *data, size_t size, struct shrink *shrink)
{
    struct jpeg_decompress_struct info;
    struct jpeg_trouble trouble;

    memset(&info, 0, sizeof(info));
    info.err = watch_jpeg(&trouble);
    if (setjmp(trouble.out) != 0) {
        jpeg_destroy_decompress(&info);
        return false;
    }
    jpeg_create_decompress(&info);
    info.mem->max_memory_to_use = MEMORY_MAX_BYTES;
    jpeg_mem_src(&info, data, size);
    (void)jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    // The decoder makes it smaller by itself, up to 8 times, which spares most of the work.
    info.scale_num = 1;
    info.scale_denom = 1;
    while (info.scale_denom < 8 && info.image_width / (2 * info.scale_denom) >= FC_PREVIEW_SIDE_PX &&
           info.image_height / (2 * info.scale_denom) >= FC_PREVIEW_SIDE_PX) {
        info.scale_denom *= 2;
    }
    bool is_good = (uint64_t)info.image_width * info.image_height <= PIXELS_MAX && jpeg_start_decompress(&info) &&
                   shrink_init(shrink, info.output_width, info.output_height);
    if (is_good) {
        decode_rows(&info, shrink);
        (void)jpeg_finish_decompress(&info);
    }
    jpeg_destroy_decompress(&info);
    return is_good;
}

static void
encode_rows(struct jpeg_compress_struct *info, const struct shrink *shrink)
{
    while (info->next_scanline < info->image_height) {
        JSAMPROW row = shrink->pixels + (size_t)info->next_scanline * shrink->to_width * RGB;
        (void)jpeg_write_scanlines(info, &row, 1);
    }
}

// encode writes the preview at this quality to memory that the caller frees.
static bool
encode(const struct shrink *shrink, int quality, unsigned char **data_out, unsigned long *size_out)
{
    struct jpeg_compress_struct info;
    struct jpeg_trouble trouble;

    memset(&info, 0, sizeof(info));
    info.err = watch_jpeg(&trouble);
    if (setjmp(trouble.out) != 0) {
        jpeg_destroy_compress(&info);
        return false;
    }
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, data_out, size_out);
    info.image_width = shrink->to_width;
    info.image_height = shrink->to_height;
    info.input_components = RGB;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    jpeg_start_compress(&info, TRUE);
    encode_rows(&info, shrink);
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    return true;
}

static bool
append_encoded(const struct shrink *shrink, struct bytes *out)
{
    static const int qualities[] = {75, 50, 25};
    bool is_done = false;

    for (size_t i = 0; i < sizeof(qualities) / sizeof(qualities[0]) && !is_done; i++) {
        unsigned char *data = NULL;
        unsigned long size = 0;
        is_done = encode(shrink, qualities[i], &data, &size) && size <= FC_PREVIEW_MAX_BYTES &&
                  bytes_append(out, bytes_view_of(data, size)) == ERR_OK;
        free(data);
    }
    return is_done;
}

// --- PNG ------------------------------------------------------------------------------------------------------------

struct png_input {
    const uint8_t *data;
    size_t size;
    jmp_buf out;
};

static void
on_png_error(png_structp png, png_const_charp message)
{
    struct png_input *input = png_get_error_ptr(png);
    (void)message;
    longjmp(input->out, 1);
}

static void
on_png_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void
read_png(png_structp png, png_bytep to, size_t size)
{
    struct png_input *input = png_get_io_ptr(png);

    if (size > input->size) {
        png_error(png, "cut");
    }
    memcpy(to, input->data, size);
    input->data += size;
    input->size -= size;
}

// decode_png_rows reads a picture as RGBA. An interlaced one would have to be held whole: it gets no preview.
static bool
decode_png_rows(png_structp png, png_infop info, struct shrink *shrink)
{
    png_read_info(png, info);
    if (png_get_interlace_type(png, info) != PNG_INTERLACE_NONE ||
        !shrink_init(shrink, png_get_image_width(png, info), png_get_image_height(png, info))) {
        return false;
    }
    png_set_expand(png);
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_add_alpha(png, WHITE, PNG_FILLER_AFTER);
    png_read_update_info(png, info);
    shrink->input = malloc(png_get_rowbytes(png, info));
    for (uint32_t y = 0; y < shrink->height && shrink->input != NULL; y++) {
        png_read_row(png, shrink->input, NULL);
        shrink_add(shrink, shrink->input, RGB + 1);
    }
    return shrink->input != NULL;
}

static bool
decode_png(const uint8_t *data, size_t size, struct shrink *shrink)
{
    struct png_input input = {.data = data, .size = size};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &input, on_png_error, on_png_warning);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    volatile bool is_good = false;

    if (info != NULL && setjmp(input.out) == 0) {
        png_set_read_fn(png, &input, read_png);
        png_set_user_limits(png, SIDE_MAX_PX, SIDE_MAX_PX);
        png_set_chunk_malloc_max(png, MEMORY_MAX_BYTES);
        is_good = decode_png_rows(png, info, shrink);
    }
    png_destroy_read_struct(&png, &info, NULL);
    return is_good;
}

bool
fc_preview_make(int fd, uint64_t size, const struct fc_image *image, struct bytes *out)
{
    struct shrink shrink = {.width = 0};
    bool is_jpeg = strcmp(image->mime_type, "image/jpeg") == 0;
    bool is_good = (is_jpeg || strcmp(image->mime_type, "image/png") == 0) && size <= FILE_MAX_BYTES;
    uint8_t *data = is_good ? malloc((size_t)size + 1) : NULL;

    is_good = data != NULL && file_read_at(fd, data, (size_t)size, 0) == ERR_OK;
    if (is_good) {
        is_good = is_jpeg ? decode_jpeg(data, (size_t)size, &shrink) : decode_png(data, (size_t)size, &shrink);
    }
    if (is_good) {
        shrink_finish(&shrink);
        is_good = !is_jpeg || turn(&shrink, fc_jpeg_orientation(bytes_view_of(data, (size_t)size)));
    }
    is_good = is_good && append_encoded(&shrink, out);
    shrink_free(&shrink);
    free(data);
    return is_good;
}

#endif
