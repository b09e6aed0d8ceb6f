// Command filetree makes trees of files that are hard to keep, and lists trees for comparison. The image of the harness has
// it, so it runs in containers; tests run it on the node, too.
//
//	filetree make DIR           a tree with one of each: names, modes, links, holes, attributes, times
//	filetree fill DIR MIB SEED  files of random bytes, the same for the same seed
//	filetree list DIR           a line for each entry, in the order of the bytes of their names
//
// A line has the quoted name, a tab, and kind, mode, owner, time, size, digest of the content, target, hard links,
// attributes, and segments with data. What the caller may not read is listed as unreadable.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	unreadable = "unreadable"
	hole       = 8 << 20
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 2 && args[0] == "make":
		err = create(args[1])
	case len(args) == 4 && args[0] == "fill":
		err = fill(args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "list":
		l := lister{root: args[1], first: map[inode]string{}}
		err = l.entry(".")
	default:
		err = errors.New("usage: filetree make DIR | fill DIR MIB SEED | list DIR")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "filetree:", err)
		os.Exit(1)
	}
}

// builder keeps the first error.
type builder struct {
	dir string
	err error
}

func (b *builder) do(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *builder) path(name string) string { return b.dir + "/" + name }

func (b *builder) folder(name string, mode uint32) {
	b.do(os.MkdirAll(b.path(name), 0o755))
	b.do(unix.Chmod(b.path(name), mode))
}

func (b *builder) file(name string, mode uint32, content []byte) {
	b.do(os.WriteFile(b.path(name), content, 0o644))
	b.do(unix.Chmod(b.path(name), mode))
}

func create(dir string) error {
	b := &builder{dir: dir}
	b.folder(".", 0o755)
	b.names()
	b.modes()
	b.links()
	b.holes()
	for _, name := range []string{"modes/0644", "modes/dir"} {
		b.do(unix.Setxattr(b.path(name), "user.note", []byte("caf\xc3\xa9\x00\xff=%"), 0))
		b.do(unix.Setxattr(b.path(name), "user.empty", nil, 0))
	}
	b.do(unix.Mkfifo(b.path("pipe"), 0o640))
	// Last, because entries that come later move the time of their folder.
	for name, at := range map[string]time.Time{
		"modes/0644":  time.Unix(600_000_000, 123_456_789),
		"links/one":   time.Unix(4_000_000_000, 1),
		"names/a b":   time.Unix(-86_400, 999_999_999),
		"links":       time.Unix(1_000_000_000, 0),
		"holes/ends":  time.Unix(1, 1),
		"modes/dir/f": time.Unix(0, 0),
	} {
		b.do(os.Chtimes(b.path(name), at, at))
	}
	b.do(unix.Chmod(b.path("modes/dir-0555"), 0o555))
	b.do(unix.Chmod(b.path("modes/dir-0000"), 0))
	return b.err
}

func (b *builder) names() {
	b.folder("names", 0o755)
	for _, name := range []string{
		"a b", " leading", "trailing ", "-rf", "*", "...", "new\nline", "bell\a", "esc\x1b[31m", "\xff\xfe not utf-8", "Gr\u00fc\u00dfe",
		"back\\slash", "quote\"'", "$(id)", "%s%n", strings.Repeat("long", 63) + "end",
	} {
		b.file("names/"+name, 0o644, []byte(name))
	}
	deep := "names/deep" + strings.Repeat("/level", 60)
	b.folder(deep, 0o755)
	b.file(deep+"/end", 0o644, []byte("deep\n"))
	b.folder("many", 0o755)
	for i := range 300 {
		b.file(fmt.Sprintf("many/%03d", i), 0o644, bytes.Repeat([]byte{byte(i)}, i*7))
	}
}

func (b *builder) modes() {
	b.folder("modes/dir", 0o2775)
	b.file("modes/dir/f", 0o664, []byte("in a folder with setgid\n"))
	b.folder("modes/sticky", 0o1777)
	for _, mode := range []uint32{0o644, 0o600, 0o755, 0o444, 0o4755, 0o2755, 0o6711, 0} {
		b.file(fmt.Sprintf("modes/%04o", mode), mode, []byte(strconv.Itoa(int(mode))))
	}
	b.file("modes/empty", 0o644, nil)
	for _, dir := range []string{"modes/dir-0555", "modes/dir-0000"} {
		b.folder(dir, 0o755)
		b.file(dir+"/inside", 0o640, []byte(dir))
	}
	b.folder("modes/none", 0o700)
}

func (b *builder) links() {
	b.folder("links/other", 0o755)
	b.file("links/one", 0o644, []byte("one file with three names\n"))
	for _, name := range []string{"links/two", "links/other/three"} {
		b.do(os.Link(b.path("links/one"), b.path(name)))
	}
	for name, target := range map[string]string{
		"relative": "../names/a b", "absolute": "/etc/passwd", "dangling": "nowhere", "loop": "loop", "up": "../../../../etc",
		"long": strings.Repeat("x/", 300) + "end", "folder": "other",
	} {
		b.do(os.Symlink(target, b.path("links/to-"+name)))
	}
}

// holes makes files with holes at the beginning, between data, at the end, and one that is only a hole.
func (b *builder) holes() {
	b.folder("holes", 0o755)
	block := bytes.Repeat([]byte("data"), 4096)
	for name, at := range map[string][]int64{"begins": {3 * hole}, "between": {0, hole, 5 * hole}, "ends": {0}, "only": nil} {
		file, err := os.Create(b.path("holes/" + name))
		b.do(err)
		if err != nil {
			return
		}
		for _, offset := range at {
			_, err = file.WriteAt(block, offset)
			b.do(err)
		}
		if name == "ends" || name == "only" {
			b.do(file.Truncate(8 * hole))
		}
		b.do(file.Close())
	}
}

// fill writes files of a MiB, twenty to a folder.
func fill(dir, mib, seed string) error {
	count, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	bytes := rand.New(rand.NewPCG(number, number))
	content := make([]byte, 1<<20)
	for i := range count {
		folder := fmt.Sprintf("%s/%02d", dir, i/20)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		for at := range len(content) / 8 {
			v := bytes.Uint64()
			for k := range 8 {
				content[at*8+k] = byte(v >> (8 * k))
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%02d", folder, i%20), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

type inode struct{ dev, ino uint64 }

type lister struct {
	root string
	// Of files with several names, the first one.
	first map[inode]string
}

func (l *lister) entry(name string) error {
	path := filepath.Join(l.root, name)
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	kind, digest, target, segments, size := "?", "-", "-", "-", stat.Size
	var names []string
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		kind = "file"
		digest, segments = content(path)
	case unix.S_IFDIR:
		// Its size is the filesystem's business.
		kind, size = "dir", 0
		entries, err := os.ReadDir(path)
		if err != nil {
			digest = unreadable
		}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
	case unix.S_IFLNK:
		kind = "link"
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		target = strconv.QuoteToASCII(to)
	case unix.S_IFIFO:
		kind = "pipe"
	}
	fmt.Printf("%s\t%s %04o %d:%d %d.%09d %d %s %s %s %s %s\n", strconv.QuoteToASCII(name), kind, stat.Mode&0o7777,
		stat.Uid, stat.Gid, stat.Mtim.Sec, stat.Mtim.Nsec, size, digest, target, l.group(name, &stat), attributes(path),
		segments)
	slices.Sort(names)
	for _, below := range names {
		if err := l.entry(filepath.Join(name, below)); err != nil {
			return err
		}
	}
	return nil
}

// group is the first name of a file that has several.
func (l *lister) group(name string, stat *unix.Stat_t) string {
	if stat.Nlink < 2 || stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "-"
	}
	key := inode{uint64(stat.Dev), stat.Ino}
	if _, known := l.first[key]; !known {
		l.first[key] = name
	}
	return fmt.Sprintf("%d:%s", stat.Nlink, strconv.QuoteToASCII(l.first[key]))
}

// content is the digest of a file, and its segments with data as the filesystem knows them.
func content(path string) (string, string) {
	file, err := os.Open(path)
	if err != nil {
		return unreadable, "-"
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err.Error(), "-"
	}
	var segments []string
	for at := int64(0); ; {
		data, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			break
		}
		if at, err = unix.Seek(int(file.Fd()), data, unix.SEEK_HOLE); err != nil {
			break
		}
		segments = append(segments, fmt.Sprintf("%d-%d", data, at))
	}
	return hex.EncodeToString(hash.Sum(nil)), "[" + strings.Join(segments, ",") + "]"
}

// attributes are those that users may set.
func attributes(path string) string {
	list := make([]byte, 1<<16)
	length, err := unix.Llistxattr(path, list)
	if err != nil {
		return unreadable
	}
	var found []string
	for _, name := range strings.Split(string(list[:length]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 1<<16)
		length, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			found = append(found, name+"="+unreadable)
			continue
		}
		found = append(found, name+"="+hex.EncodeToString(value[:length]))
	}
	slices.Sort(found)
	return "{" + strings.Join(found, ",") + "}"
}
