package ship

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"
	"go.yaml.in/yaml/v2"
)

// folder is a bucket in a directory. It differs from its provider in how an
// object is written: whole or not at all, on disk when Upload returns (a block
// that counts as safe is deleted elsewhere), and readable by its owner alone.
type folder struct {
	*filesystem.Bucket
	root string
}

func openFolder(conf []byte) (*folder, error) {
	var c filesystem.Config
	if err := yaml.UnmarshalStrict(conf, &c); err != nil {
		return nil, err
	}
	inner, err := filesystem.NewBucketFromConfig(conf)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(c.Directory)
	if err != nil {
		return nil, err
	}
	return &folder{Bucket: inner, root: root}, nil
}

// Upload writes the object beside its place and renames it there. A crash
// leaves at most `<name>.tmp`, which the next upload of the object overwrites.
func (f *folder) Upload(ctx context.Context, name string, r io.Reader, _ ...objstore.ObjectUploadOption) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := filepath.Join(f.root, filepath.FromSlash(name))
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of object %s: %w", name, err)
	}
	err := replaceFile(path, func(w io.Writer) error {
		_, err := io.Copy(w, reader{ctx, r})
		return err
	})
	if err != nil {
		return fmt.Errorf("write object %s: %w", name, err)
	}
	// The rename lasts once every directory on the way to it is on disk.
	for dir != f.root && len(dir) > len(f.root) {
		dir = filepath.Dir(dir)
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("write object %s: %w", name, err)
		}
	}
	return nil
}

// reader ends a copy when its context does.
type reader struct {
	ctx context.Context //nolint:containedctx // lives for one copy.
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// replaceFile makes path hold what write writes: the old content or all of the
// new one, after any crash. The file is 0600.
func replaceFile(path string, write func(io.Writer) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the first error says more
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}
