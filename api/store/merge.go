package store

import (
	"container/heap"
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/labels"
)

// merge walks the series of many tenants in one order.
type merge struct {
	open []*cursor // all of them, for close
	heap cursors   // those that stand on a series
}

// add takes over a cursor, closing included.
func (m *merge) add(ctx context.Context, c *cursor) error {
	m.open = append(m.open, c)
	ok, err := c.next(ctx)
	if ok {
		heap.Push(&m.heap, c)
	}
	return err
}

// next is the next series of all; ok is false at the end.
func (m *merge) next(ctx context.Context) (s series, ok bool, err error) {
	if len(m.heap) == 0 {
		return series{}, false, nil
	}
	c := m.heap[0]
	s = c.at
	more, err := c.next(ctx)
	if err != nil {
		return series{}, false, err
	}
	if more {
		heap.Fix(&m.heap, 0)
	} else {
		heap.Pop(&m.heap)
	}
	return s, true, nil
}

func (m *merge) close() error {
	var errs []error
	for _, c := range m.open {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

type cursors []*cursor

func (h cursors) Len() int           { return len(h) }
func (h cursors) Less(i, j int) bool { return labels.Compare(h[i].at.labels, h[j].at.labels) < 0 }
func (h cursors) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *cursors) Push(x any)        { *h = append(*h, x.(*cursor)) }

func (h *cursors) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
