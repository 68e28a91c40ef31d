package cluster

import (
	"fmt"
	"strconv"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxRefusal bounds a refusal's text in bytes: it is remembered in the state.
const maxRefusal = 600

// refuse says that a command is not carried out: what is wrong and what to do.
// field names the field of the object that is wrong, as the admin API calls
// it; "" where it is none.
func refuse(kind clusterpb.Refusal_Kind, field, format string, args ...any) *clusterpb.Refusal {
	return &clusterpb.Refusal{Kind: kind, Field: field, Message: text(fmt.Sprintf(format, args...), maxRefusal)}
}

func invalid(field, format string, args ...any) *clusterpb.Refusal {
	return refuse(clusterpb.Refusal_INVALID, field, format, args...)
}

func notFound(format string, args ...any) *clusterpb.Refusal {
	return refuse(clusterpb.Refusal_NOT_FOUND, "", format, args...)
}

func unsafe(field, format string, args ...any) *clusterpb.Refusal {
	return refuse(clusterpb.Refusal_UNSAFE, field, format, args...)
}

func full(field, format string, args ...any) *clusterpb.Refusal {
	return refuse(clusterpb.Refusal_LIMIT, field, format, args...)
}

// many counts things in words: 1 node, 2 nodes.
func many(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// quote shows what somebody sent, in ASCII and not at length.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
