package prom

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func TestLabelBytesAreTheLayoutInMemory(t *testing.T) {
	for _, ls := range []labels.Labels{
		labels.EmptyLabels(),
		labels.FromStrings("__name__", "up", "job", "x"),
		labels.FromStrings("a", strings.Repeat("v", 254), "b", strings.Repeat("w", 255), strings.Repeat("n", 70_000), "c"),
	} {
		b := labelBytes(ls)
		if labels.ImplementationName == "stringlabels" {
			require.Equal(t, string(ls.Bytes(nil)), string(b))
		}
		scratch := labels.NewScratchBuilder(0)
		back, err := labelsOf(b, &scratch)
		require.NoError(t, err)
		require.True(t, labels.Equal(ls, back))
	}
}

func FuzzLabelsOf(f *testing.F) {
	f.Add(labelBytes(labels.FromStrings("__name__", "up", "job", "x")))
	f.Add([]byte{255, 1})
	f.Add([]byte{1, 'a', 255, 255, 255, 255})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		scratch := labels.NewScratchBuilder(0)
		ls, err := labelsOf(b, &scratch)
		if err != nil {
			return
		}
		before := ""
		ls.Range(func(l labels.Label) {
			require.Less(t, before, l.Name)
			before = l.Name
		})
		again, err := labelsOf(labelBytes(ls), &scratch)
		require.NoError(t, err)
		require.True(t, labels.Equal(ls, again))
	})
}
