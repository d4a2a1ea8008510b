package main_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"e2qcow/internal/testfs"
)

// randomNames returns distinct names of random lengths from random alphabets.
func randomNames(r *rand.Rand) []string {
	alphabets := []string{
		"0123456789", "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_. ", "\x80\x81\xfe\xff\xc3xyz",
	}
	alphabet := alphabets[r.IntN(len(alphabets))]
	longest := []int{2, 3, 8, 40, 255}[r.IntN(5)]
	n := 50 + r.IntN(1500)
	seen := map[string]bool{}
	var names []string
	for range 4 * n {
		b := make([]byte, 1+r.IntN(longest))
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		if name := string(b); !seen[name] && name != "." && name != ".." && len(names) < n {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// TestScrambleNames scrambles random directories: of all hashes, seeds, sizes
// of blocks, packed by e2fsck and not. e2fsck finds all indexes sound, no file
// has the name that it had, and the kernel finds each by its new one.
// SCRAMBLE_DIRECTORIES is how many (12).
func TestScrambleNames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	tool := testfs.Build(t)
	count := 12
	if n, err := strconv.Atoi(os.Getenv("SCRAMBLE_DIRECTORIES")); err == nil {
		count = n
	}
	for k := 0; k*foldersPerFS < count; k++ {
		r := rand.New(rand.NewPCG(uint64(k), 1))
		block := []int{1024, 2048, 4096}[r.IntN(3)]
		hash := []string{"legacy", "half_md4", "tea"}[k%3]
		t.Run(fmt.Sprintf("%d/%d/%s", k, block, hash), func(t *testing.T) {
			dir := testfs.TempDir(t)
			image, mnt := filepath.Join(dir, "fs.img"), filepath.Join(dir, "mnt")
			run := func(fails bool, name string, args ...string) {
				t.Helper()
				if out, err := exec.Command(name, args...).CombinedOutput(); err != nil && !fails {
					t.Fatalf("%s %q: %v\n%s", name, args, err, out)
				}
			}
			run(false, "mke2fs", "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(block), "-N", "20000", "-E",
				fmt.Sprintf("hash_seed=6d796a20-0000-4000-8000-%012d", k), image, "64M")
			run(false, "tune2fs", "-E", "hash_alg="+hash, image)
			if err := os.Mkdir(mnt, 0o700); err != nil {
				t.Fatal(err)
			}
			old := map[uint64]string{}
			if !fillFolders(t, r, image, mnt, old) {
				t.Skip("the kernel mounts no such filesystem")
			}
			if k%2 == 1 {
				run(true, "e2fsck", "-fyD", image)
			}
			raw := filepath.Join(dir, "raw.img")
			res := tool.Run(t, "-f", "-rs", image, raw) // -f: it may still be mounted there
			if res.Exit != 0 {
				t.Fatalf("exit %d\n%s", res.Exit, res.Stderr)
			}
			v := testfs.Fsck(t, raw, "-fn")
			if v.Exit != 0 {
				t.Fatalf("e2fsck: exit %d\n%.2000s", v.Exit, v.Text)
			}
			found, stayed := 0, 0
			err := testfs.Privately(func() error {
				if err := exec.Command("mount", "-o", "loop,ro", raw, mnt).Run(); err != nil {
					return fmt.Errorf("mounting the scrambled filesystem: %w", err)
				}
				err := filepath.WalkDir(mnt, func(path string, e os.DirEntry, err error) error {
					if err != nil || !e.IsDir() {
						return err
					}
					return collect(path, func(ino uint64, name string) {
						if was, ok := old[ino]; ok {
							found++
							if was == name && name != "lost+found" {
								stayed++
							}
						}
					})
				})
				return errors.Join(err, testfs.Unmount(mnt))
			})
			if err != nil || found != len(old) || stayed > 0 {
				t.Errorf("%d files of %d are found, %d have their names: %v", found, len(old), stayed, err)
			}
		})
	}
}

// foldersPerFS is how many folders of random names a filesystem gets, the root
// among them.
const foldersPerFS = 6

// fillFolders mounts the filesystem in image on mnt, makes files with random
// names in it, and notes their names by inode. It returns false where the kernel
// does not mount such a filesystem.
func fillFolders(t *testing.T, r *rand.Rand, image, mnt string, names map[uint64]string) (mounted bool) {
	t.Helper()
	err := testfs.Privately(func() (err error) {
		if exec.Command("mount", "-o", "loop", image, mnt).Run() != nil {
			return nil
		}
		mounted = true
		defer func() { err = errors.Join(err, testfs.Unmount(mnt)) }()
		for d := range foldersPerFS {
			folder := filepath.Join(mnt, fmt.Sprintf("folder-%d", d))
			if d == 0 {
				folder = mnt
			} else if err := os.Mkdir(folder, 0o700); err != nil {
				return err
			}
			for _, name := range randomNames(r) {
				if err := os.WriteFile(folder+"/"+name, nil, 0o600); err != nil {
					return err
				}
			}
			if err := collect(folder, func(ino uint64, name string) { names[ino] = name }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return mounted
}

// collect looks each name in a folder up, and shows its inode.
func collect(folder string, show func(ino uint64, name string)) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := os.Lstat(folder + "/" + e.Name())
		if err != nil {
			return err
		}
		show(inodeOf(info), e.Name())
	}
	return nil
}

func inodeOf(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
