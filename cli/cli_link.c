#include "cli/cli_link.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli_list.h"

bool
cli_link_is(const char *text)
{
    return strstr(text, "://") != NULL;
}

bool
cli_link_works(const struct fc_chat_link *link)
{
    return (link->max_uses == 0 || link->use_count < link->max_uses) &&
           (link->expires_unix_ms == 0 || link->expires_unix_ms > clock_unix_ms());
}

void
cli_link_add_json(struct cli_text *text, const struct fc_chat_link *link)
{
    cli_json_hex(text, "id", link->id, 16);
    cli_json_text(text, "role", cli_role_name((int)link->role));
    cli_json_u64(text, "use_count", link->use_count);
    if (link->max_uses > 0) {
        cli_json_u64(text, "max_uses", link->max_uses);
    }
    if (link->expires_unix_ms > 0) {
        cli_json_time(text, "expires_at", link->expires_unix_ms);
    }
}

void
cli_link_add_line(struct cli_text *text, const struct fc_chat_link *link)
{
    cli_text_add_hex(text, link->id, 16);
    cli_text_add(text, "  %-6s  used %" PRIu32, cli_role_name((int)link->role), link->use_count);
    if (link->max_uses > 0) {
        cli_text_add(text, " of %" PRIu32, link->max_uses);
    }
    if (link->expires_unix_ms > 0) {
        cli_text_add(text, ", ends ");
        cli_text_add_local_time(text, link->expires_unix_ms);
    }
    cli_text_add(text, "\n");
}
