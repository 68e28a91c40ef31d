package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQueryShowsHistograms(t *testing.T) {
	const h = `{"count":"21","sum":"36.8","buckets":[[1,"-4","-2.8","2"],[3,"-0.001","0.001","3"],[0,"1","1.4","5"],[2,"2","3","4"]]}`
	const text = `{count:21, sum:36.8, [-4,-2.8):2, [-0.001,0.001]:3, (1,1.4]:5, (2,3):4}`
	for answer, want := range map[string]string{
		`{"data":{"resultType":"vector","result":[{"metric":{"__name__":"h"},"histogram":[1,` + h + `]},{"metric":{"__name__":"f"},"value":[1,"2.5"]}]}}`:      "h{}  " + text + "\nf{}  2.5\n",
		`{"data":{"resultType":"matrix","result":[{"metric":{"__name__":"h"},"values":[[60,"1"],[180,"NaN"]],"histograms":[[120,{"count":"0","sum":"0"}]]}]}}`: "h{}\n  1970-01-01T00:01:00Z  1\n  1970-01-01T00:02:00Z  {count:0, sum:0}\n  1970-01-01T00:03:00Z  NaN\n",
	} {
		var out bytes.Buffer
		require.NoError(t, stdio{out: &out, err: &out}.samples([]byte(answer)))
		require.Equal(t, want, out.String())
	}
	require.Error(t, stdio{}.samples([]byte(`{"data":{"resultType":"vector","result":[{"metric":{},"value":[1,[]]}]}}`)))
}
