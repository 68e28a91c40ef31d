package admin

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
)

// openAPI describes this API, for programs (OpenAPI 3.1). Tests hold it against
// the routes, and against what they take and answer.
//
//go:embed openapi.json
var openAPI []byte

// openAPIDocument serves the description. It is the same on every node, and
// there before a cluster is.
func (a *api) openAPIDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(openAPI)
}

// documented are the parameters of each route that the document has, by the
// route's pattern: those of the query, and headers as "If-Match:".
var documented = sync.OnceValue(func() map[string][]string {
	type parameter struct {
		Ref  string `json:"$ref"`
		Name string `json:"name"`
		In   string `json:"in"`
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Parameters map[string]parameter `json:"parameters"`
		} `json:"components"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		return nil // a test reads the document, too
	}
	out := map[string][]string{}
	for at, methods := range doc.Paths {
		for method, raw := range methods {
			var op struct {
				Parameters []parameter `json:"parameters"`
			}
			if json.Unmarshal(raw, &op) != nil {
				continue
			}
			names := []string{}
			for _, p := range op.Parameters {
				if p.Ref != "" {
					p = doc.Components.Parameters[path.Base(p.Ref)]
				}
				switch p.In {
				case "query":
					names = append(names, p.Name)
				case "header":
					names = append(names, p.Name+":")
				}
			}
			out[strings.ToUpper(method)+" /api/v1"+at] = names
		}
	}
	return out
})

// checkParameters refuses what the route does not have: a dry run that was
// mistyped, or a condition that nobody looks at, would be done in earnest.
func checkParameters(pattern string, r *http.Request) error {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return bad("query", "the query of the URL: %v", err)
	}
	names, known := documented()[pattern]
	for name, values := range q {
		switch {
		case known && !slices.Contains(names, name):
			return bad(cut(name), "unknown query parameter %q; %s has %s", cut(name), pattern, queryNames(names))
		case len(values) > 1:
			return bad(cut(name), "%s is given %d times", cut(name), len(values))
		}
	}
	if !known || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil // a condition on a GET is its cache's
	}
	for _, name := range []string{"If-Match", "If-None-Match", requestHeader} {
		if r.Header.Get(name) != "" && !slices.Contains(names, name+":") {
			return bad(name, "%s does not take %s", pattern, name)
		}
	}
	return nil
}

func queryNames(names []string) string {
	var own []string
	for _, n := range names {
		if !strings.HasSuffix(n, ":") {
			own = append(own, n)
		}
	}
	if len(own) == 0 {
		return "none"
	}
	return strings.Join(own, ", ")
}

// Straight refuses paths of this API with empty segments, "." and "..": the
// mux would send their callers to another object.
func Straight(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ours := strings.CutPrefix(r.URL.Path, "/api/v1/"); ours {
			for segment := range strings.SplitSeq(rest, "/") {
				if segment == "" || segment == "." || segment == ".." {
					send(w, http.StatusBadRequest, bad("path", "the path %q has a segment %q, which names nothing", cut(r.URL.Path), segment))
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}
