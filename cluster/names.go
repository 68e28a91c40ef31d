package cluster

import (
	"net"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

var (
	nodeName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	labelName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	clusterID = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ValidTenantID says whether a tenant may have that id:
// [A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127}.
func ValidTenantID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && strings.IndexByte("._:@=+-", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// ValidName says whether a node, a ring, a zone, a cluster or a token may be
// called so: letters, digits, dots, underscores and hyphens, at most 63, the
// first a letter or a digit.
func ValidName(name string) bool { return nodeName.MatchString(name) }

func checkName(field, what, name string) *clusterpb.Refusal {
	if ValidName(name) {
		return nil
	}
	return invalid(field, "%s %s: want letters, digits, '.', '_' or '-', at most 63, beginning with a letter or a digit", what, quote(name))
}

func checkTenantID(field, id string) *clusterpb.Refusal {
	if ValidTenantID(id) {
		return nil
	}
	return invalid(field, "tenant %s: want letters, digits and ._:@=+-, at most 128, beginning with a letter or a digit", quote(id))
}

// checkAddress wants host:port; "" passes where it is not required.
func checkAddress(field, address string, required bool) *clusterpb.Refusal {
	if address == "" && !required {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	n, numErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numErr != nil || n == 0 || len(address) > 255 || !hostLike(host) {
		return invalid(field, "%s %s: want host:port with a port from 1 to 65535", field, quote(address))
	}
	return nil
}

// hostLike keeps spaces and control characters out of addresses; whether a
// name resolves is for those who dial it.
func hostLike(host string) bool {
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`/\"'<>@?#`, c) >= 0 {
			return false
		}
	}
	return host != ""
}

func checkBytes(field string, b []byte, want int) *clusterpb.Refusal {
	if len(b) != want {
		return invalid(field, "%s has %d bytes: want %d", field, len(b), want)
	}
	return nil
}

// checkPattern wants a tenant's id or a pattern of path.Match.
func checkPattern(field, pattern string) *clusterpb.Refusal {
	if literalLen(pattern) == len(pattern) {
		return checkTenantID(field, pattern)
	}
	if len(pattern) > 128 {
		return invalid(field, "pattern %s is longer than 128 bytes", quote(pattern))
	}
	for i := range len(pattern) {
		if c := pattern[i]; c <= ' ' || c >= 0x7f || c == '/' {
			return invalid(field, "pattern %s: no tenant id has the byte %#x", quote(pattern), c)
		}
	}
	if _, err := path.Match(pattern, "x"); err != nil {
		return invalid(field, "pattern %s: %v; see Go's path.Match", quote(pattern), err)
	}
	return nil
}

// text makes s fit to be kept and shown: valid UTF-8, at most most bytes.
func text(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}
