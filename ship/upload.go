package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/thanos-io/objstore"
)

// upload puts a block into the bucket, meta.json last, and returns the number
// of bytes. It may run again over what an earlier, interrupted upload left.
func upload(ctx context.Context, bucket objstore.Bucket, dir string, m Meta) (int64, error) {
	id := m.ULID.String()
	meta, err := m.encode()
	if err != nil {
		return 0, err
	}
	var total int64
	// Sorted, so chunks/… come before index. A crash before, in or after any of
	// these leaves a partial block: invisible to readers, uploaded again.
	for _, f := range m.Thanos.Files {
		if f.RelPath == metaName {
			continue
		}
		if err := uploadFile(ctx, bucket, filepath.Join(dir, filepath.FromSlash(f.RelPath)), path.Join(id, f.RelPath)); err != nil {
			return 0, fmt.Errorf("upload %s: %w", f.RelPath, err)
		}
		total += f.SizeBytes
	}
	// A crash before this leaves a partial block; one after it leaves a whole
	// block that the next scan finds, verifies and records. Where the bucket
	// answers an error after it has kept the object, the same happens.
	if err := bucket.Upload(ctx, path.Join(id, metaName), bytes.NewReader(meta)); err != nil {
		return 0, fmt.Errorf("upload %s: %w", metaName, err)
	}
	return total + int64(len(meta)), nil
}

func uploadFile(ctx context.Context, bucket objstore.Bucket, src, dst string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	return bucket.Upload(ctx, dst, f)
}

// verify reads back what the bucket has of a block and returns its meta.json:
// it must say what m says, apart from the upload time, and every object must
// be there with its size. errDiffers and errIncomplete say that it is not so.
func verify(ctx context.Context, bucket objstore.Bucket, m Meta) (Meta, error) {
	id := m.ULID.String()
	r, err := bucket.Get(ctx, path.Join(id, metaName))
	if err != nil {
		return Meta{}, fmt.Errorf("read %s back: %w", metaName, err)
	}
	got, err := decodeMeta(r)
	err = errors.Join(err, drain(r))
	if err != nil {
		return Meta{}, fmt.Errorf("read %s back: %w", metaName, err)
	}
	same, err := sameBlock(got, m)
	if err != nil {
		return Meta{}, err
	}
	if !same {
		return Meta{}, errDiffers
	}
	for _, f := range m.Thanos.Files {
		if f.RelPath == metaName {
			continue
		}
		attrs, err := bucket.Attributes(ctx, path.Join(id, f.RelPath))
		if err != nil {
			if bucket.IsObjNotFoundErr(err) {
				return Meta{}, fmt.Errorf("%w: no %s", errIncomplete, f.RelPath)
			}
			return Meta{}, fmt.Errorf("look at %s: %w", f.RelPath, err)
		}
		if attrs.Size != f.SizeBytes {
			return Meta{}, fmt.Errorf("%w: %s has %d bytes, not %d", errIncomplete, f.RelPath, attrs.Size, f.SizeBytes)
		}
	}
	return got, nil
}

// drain reads to the end, so that the connection can be used again.
func drain(r io.ReadCloser) error {
	_, err := io.Copy(io.Discard, io.LimitReader(r, maxMeta))
	return errors.Join(err, r.Close())
}
