package main

import (
	"context"
	"io"
	"path"
	"strings"

	"github.com/thanos-io/objstore"
)

// shelfPrefix is where snapshots are in the bucket. Thanos takes a directory at
// the bucket's root for a block only where its name is a ULID.
const shelfPrefix = "muster/snapshots/"

// shelf keeps snapshots of the control state in the bucket.
type shelf struct{ bucket objstore.Bucket }

func (s shelf) Put(ctx context.Context, name string, r io.Reader) error {
	return s.bucket.Upload(ctx, shelfPrefix+name, r)
}

func (s shelf) List(ctx context.Context, cluster string) (names []string, err error) {
	err = s.bucket.Iter(ctx, shelfPrefix+cluster+"/", func(name string) error {
		if !strings.HasSuffix(name, objstore.DirDelim) {
			names = append(names, path.Base(name))
		}
		return nil
	})
	return names, err
}

func (s shelf) Delete(ctx context.Context, name string) error {
	return s.bucket.Delete(ctx, shelfPrefix+name)
}
