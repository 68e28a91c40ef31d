package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
)

// maxDepth bounds how deep objects and lists of a body lie in each other.
const maxDepth = 16

// checkShape walks a JSON text along the Go value that it shall fill. What
// encoding/json lets pass is refused: a field that differs in its letters'
// case, one that stands there twice, and anything after the object.
func checkShape(raw []byte, v any) error {
	w := walker{json.NewDecoder(bytes.NewReader(raw))}
	w.dec.UseNumber()
	if raw = bytes.TrimSpace(raw); raw[0] != '{' {
		return bad("body", "the body is not a JSON object")
	}
	if err := w.value("", reflect.TypeOf(v), 0); err != nil {
		return err
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return bad("body", "the body goes on after its JSON object")
	}
	return nil
}

type walker struct{ dec *json.Decoder }

// value walks over one value; t is nil where its fields are not known.
func (w walker) value(path string, t reflect.Type, depth int) error {
	tok, err := w.dec.Token()
	if err != nil {
		return notJSON(path, err)
	}
	if depth > maxDepth {
		return bad(fieldOr(path), "%s lies too deep", fieldOr(path))
	}
	switch tok {
	case json.Delim('{'):
		err = w.object(path, t, depth)
	case json.Delim('['):
		err = w.list(path, t, depth)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := w.dec.Token(); err != nil { // the closing bracket
		return notJSON(path, err)
	}
	return nil
}

func (w walker) object(path string, t reflect.Type, depth int) error {
	fields, free := fieldsOf(t)
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return notJSON(path, err)
		}
		key, _ := tok.(string)
		at := strings.TrimPrefix(path+"."+cut(key), ".")
		switch of, known := fields[key]; {
		case seen[key]:
			return bad(at, "%q stands there twice", at)
		case fields != nil && !known:
			return bad(at, "unknown field %q", at)
		case known:
			err = w.value(at, of, depth+1)
		default:
			err = w.value(at, free, depth+1)
		}
		if err != nil {
			return err
		}
		seen[key] = true
	}
	return nil
}

func (w walker) list(path string, t reflect.Type, depth int) error {
	var of reflect.Type
	if t = bare(t); t != nil && t.Kind() == reflect.Slice {
		of = t.Elem()
	}
	for w.dec.More() {
		if err := w.value(path, of, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func notJSON(path string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bad(fieldOr(path), "%s: the JSON ends in the middle", fieldOr(path))
	}
	return bad(fieldOr(path), "%s: not JSON: %v", fieldOr(path), err)
}

func fieldOr(path string) string {
	if path == "" {
		return "body"
	}
	return path
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// bare is the type without pointers; nil for one that reads JSON by itself.
func bare(t reflect.Type) reflect.Type {
	for t != nil {
		if reflect.PointerTo(t).Implements(unmarshaler) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// fieldsOf are the fields of a struct by their names in JSON. Of a map, whose
// keys are free, it is the type of the values.
func fieldsOf(t reflect.Type) (fields map[string]reflect.Type, free reflect.Type) {
	t = bare(t)
	switch {
	case t == nil:
		return nil, nil
	case t.Kind() == reflect.Map:
		return nil, t.Elem()
	case t.Kind() != reflect.Struct:
		return nil, nil
	}
	fields = map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			inner, _ := fieldsOf(f.Type)
			for k, v := range inner {
				fields[k] = v
			}
		case name != "" && name != "-" && f.IsExported():
			fields[name] = f.Type
		}
	}
	return fields, nil
}
