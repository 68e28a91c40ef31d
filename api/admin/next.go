package admin

import (
	"net/http"
	"net/url"
	"strings"
)

// nextOf is what to type after a refusal that does not say so itself: the
// command that shows how what was asked about is, or what there is instead.
// exists says whether the object of the path is there.
func nextOf(r *http.Request, code int, exists bool) string {
	list, one := commandsOf(r.URL.EscapedPath())
	switch {
	case r.URL.Path == "/api/v1/certificates" && code == http.StatusNotFound: // the tenant that one is asked for
		return "`muster tenant list` shows what there is"
	case r.URL.Path == "/api/v1/cluster/join" && code == http.StatusConflict:
		return "mend that, then join again with the same token"
	case strings.HasPrefix(r.URL.Path, "/api/v1/cluster/members/") && code == http.StatusConflict:
		return "`muster cluster status` shows how it is"
	case list == "":
		return ""
	case code == http.StatusNotFound, code == http.StatusPreconditionFailed && !exists:
		return "`" + list + "` shows what there is"
	case code == http.StatusPreconditionFailed:
		return "look at it again: `" + one + "`"
	case code == http.StatusConflict:
		return "`" + one + "` shows how it is"
	default:
		return ""
	}
}

// commandsOf are the commands that list the objects of a path's kind, and that
// show the one which the path names.
func commandsOf(path string) (list, one string) {
	rest, _ := strings.CutPrefix(path, "/api/v1/")
	words := strings.Split(rest, "/")
	for i, w := range words {
		if text, err := url.PathUnescape(w); err == nil && shellSafe(text) {
			words[i] = text
		} else {
			words[i] = "'…'"
		}
	}
	words = append(words, "", "", "")
	switch words[0] {
	case "tenants":
		if words[2] == "tokens" && words[3] != "" {
			return "muster tenant token list " + words[1], "muster tenant token list " + words[1]
		}
		return "muster tenant list", "muster tenant show " + words[1]
	case "rings":
		return "muster ring list", "muster ring show " + words[1]
	case "settings":
		return "muster settings show", "muster settings show"
	case "tokens":
		return "muster token list", "muster token list"
	case "certificates":
		return "muster cert show", "muster cert show"
	case "snapshot":
		return "muster cluster status", "muster snapshot inspect FILE"
	case "cluster":
		if words[1] == "members" {
			return "muster cluster members", "muster cluster members"
		}
		return "muster cluster members", "muster cluster status"
	}
	return "", ""
}

// shellSafe says whether a word may be pasted into a shell as it is.
func shellSafe(word string) bool {
	return strings.IndexFunc(word, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._:@=+-", c)
	}) < 0
}
