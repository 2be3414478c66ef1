// Reads what packaging ships as its users' programs do: `kustomize DIR` prints what `kubectl apply -k DIR` would apply, and
// `compose FILE` loads the file of a project.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func built(directory string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return nil, err
	}
	return resources.AsYaml()
}

func loaded(file string) ([]byte, error) {
	environment := cli.WithEnv([]string{"SANDHOG_SECRET=0123456789abcdef"})
	options, err := cli.NewProjectOptions([]string{file}, cli.WithName("checked"), environment)
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalYAML()
}

func main() {
	verbs := map[string]func(string) ([]byte, error){"kustomize": built, "compose": loaded}
	text, err := verbs[os.Args[1]](os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}
