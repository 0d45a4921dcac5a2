#include "services/tracker/tracker_service_priv.h"

_Static_assert((int)TRACKER_PEER == (int)FC__TRACKER__V1__SOURCE_KIND__PEER, "kinds have the numbers of the .proto");
_Static_assert((int)TRACKER_QUARANTINED == (int)FC__TRACKER__V1__SOURCE_STATE__QUARANTINED, "states, too");
_Static_assert((int)TRACKER_TWO_CHOICES == (int)FC__TRACKER__V1__STRATEGY__TWO_CHOICES, "strategies, too");

ProtobufCBinaryData
tracker_wire_bytes(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data}; // what is sent is only read
}

static char *
wire_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void
from_load(const struct tracker_load *load, Fc__Segment__V1__Load *out)
{
    fc__segment__v1__load__init(out);
    out->cpu_permille = load->cpu_permille;
    out->connections = load->connections;
    out->segments_in_flight = load->segments_in_flight;
    out->sent_bytes = load->sent_bytes;
    out->sent_bytes_per_s = load->sent_bytes_per_s;
    out->limit_bytes_per_s = load->limit_bytes_per_s;
    out->stored_bytes = load->stored_bytes;
    out->budget_bytes = load->budget_bytes;
    out->file_count = load->file_count;
    out->segment_count = load->segment_count;
    out->sent_segments = load->sent_segments;
}

void
tracker_wire_to_load(const Fc__Segment__V1__Load *load, struct tracker_load *out)
{
    *out = (struct tracker_load){0};
    if (load == NULL) {
        return;
    }
    out->cpu_permille = load->cpu_permille;
    out->connections = load->connections;
    out->segments_in_flight = load->segments_in_flight;
    out->sent_bytes = load->sent_bytes;
    out->sent_bytes_per_s = load->sent_bytes_per_s;
    out->limit_bytes_per_s = load->limit_bytes_per_s;
    out->stored_bytes = load->stored_bytes;
    out->budget_bytes = load->budget_bytes;
    out->file_count = load->file_count;
    out->segment_count = load->segment_count;
    out->sent_segments = load->sent_segments;
}

void
tracker_wire_from_source(const struct tracker_source *source, struct tracker_wire_source *out)
{
    Fc__Tracker__V1__Source *message = &out->message;
    fc__tracker__v1__source__init(message);
    from_load(&source->load, &out->load);
    message->id = tracker_wire_bytes(source->id, sizeof(source->id));
    message->incarnation = source->incarnation;
    message->name = wire_text(source->name);
    message->kind = (Fc__Tracker__V1__SourceKind)source->kind;
    message->state = (Fc__Tracker__V1__SourceState)source->state;
    message->urls = (char **)(uintptr_t)source->urls;
    message->n_urls = source->url_count;
    if (source->has_certificate) {
        message->certificate_sha256 =
            tracker_wire_bytes(source->certificate_sha256, sizeof(source->certificate_sha256));
    }
    message->user_name = wire_text(source->user_name);
    message->load = &out->load;
    message->since_ms = source->since_unix_ms;
    message->bad_segments = source->bad_segments;
}

void
tracker_wire_from_holding(const struct tracker_holding_view *view, Fc__Segment__V1__Holding *out)
{
    fc__segment__v1__holding__init(out);
    out->file_id = tracker_wire_bytes(view->file_id, TRACKER_ID_BYTES);
    out->segment_count = view->segment_count;
    out->is_complete = view->is_complete;
    out->is_pull_through = view->is_pull_through;
    out->segments = tracker_wire_bytes(view->segments.data, view->segments.size);
}
