package main

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsWhatTheSystemGives(t *testing.T) {
	const meminfo = "MemTotal:       8000000 kB\nMemFree:         100000 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nobody says", nil, 0},
		{"a machine", map[string]string{"proc/meminfo": meminfo}, 8_000_000 << 10},
		{"a group without a bound", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/muster.service\n",
			"sys/fs/cgroup/system.slice/muster.service/memory.max": "max\n",
		}, 8_000_000 << 10},
		{"a bound above", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/muster.service\n",
			"sys/fs/cgroup/system.slice/muster.service/memory.max": "4294967296\n",
			"sys/fs/cgroup/system.slice/memory.max":                "2147483648\n",
		}, 2 << 30},
		{"a container", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n",
		}, 1 << 30},
		{"a container of the first version", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
		}, 512 << 20},
		{"the first version without a bound", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 8_000_000 << 10},
		{"nonsense", map[string]string{"proc/meminfo": "MemTotal: much\n", "proc/self/cgroup": "what\n"}, 0},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		require.Equal(t, c.want, memoryOf(root), c.name)
	}
}
