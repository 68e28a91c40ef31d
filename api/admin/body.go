package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/common/model"
)

// maxBody bounds a request's body in bytes: a ring with 10,000 patterns has 1.3 MB.
const maxBody = 4 << 20

// decode reads the request's JSON object into v. An empty body is an empty
// object. What v has no field for, what stands there twice and what is of
// another type is an error that names the field by its whole path.
func decode(r *http.Request, v any) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if err := checkShape(raw, v); err != nil {
		return err
	}
	err = json.Unmarshal(raw, v)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind):
		field := visible(kind.Field)
		return bad(field, "%s: a %s where %s is wanted", fieldName(field), kind.Value, wanted(kind))
	default:
		return bad("body", "the body is not a JSON object: %v", err)
	}
}

func bodyError(err error) error {
	if size := (*http.MaxBytesError)(nil); errors.As(err, &size) {
		return bad("body", "the body has more than %d bytes", size.Limit)
	}
	return fmt.Errorf("read the body: %w", err)
}

// visible is the path of a field without the embedded objects, which have no
// name in the JSON.
func visible(path string) string {
	var parts []string
	for part := range strings.SplitSeq(path, ".") {
		if part != "specObject" && part != "ringObject" && part != "history" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ".")
}

func fieldName(field string) string {
	if field == "" {
		return "the body"
	}
	return field
}

func wanted(e *json.UnmarshalTypeError) string {
	switch k := e.Type.Kind().String(); k {
	case "int64", "uint64", "uint32", "int":
		return "a whole number"
	case "struct", "map":
		return "an object"
	case "slice":
		return "a list"
	default:
		return "a " + k
	}
}

// matches wants a name in the body, where there is one, to be the path's.
func matches(field, body, path string) error {
	if body != "" && body != path {
		return bad(field, "the body says %s %q, the path %q", field, body, path)
	}
	return nil
}

// span is a duration as people write it, "15d" or "2h30m"; a bare 0 is taken as
// one too. It is judged when it is used, so that the error can name its field.
type span string

// UnmarshalJSON takes any string or number.
func (s *span) UnmarshalJSON(text []byte) error {
	var str string
	if json.Unmarshal(text, &str) == nil {
		*s = span(str)
		return nil
	}
	*s = span(text)
	return nil
}

func spanOf(ms int64) span { return span(model.Duration(ms * 1e6).String()) }

func spanOrNil(ms *int64) *span {
	if ms == nil {
		return nil
	}
	s := spanOf(*ms)
	return &s
}

// milliseconds is what the span says; nil stays nil.
func (s *span) milliseconds(field string) (*int64, error) {
	if s == nil {
		return nil, nil //nolint:nilnil // left out stays left out.
	}
	d, err := model.ParseDuration(string(*s))
	if err != nil {
		return nil, bad(field, "%s %q: want a duration such as 15d, 2h or 30m; it is never negative", field, cut(string(*s)))
	}
	ms := int64(d) / 1e6
	return &ms, nil
}

// cut shortens what somebody sent for an error.
func cut(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
