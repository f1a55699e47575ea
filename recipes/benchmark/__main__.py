"""See `recipes.benchmark.command`."""

from recipes.benchmark.command import main

if __name__ == "__main__":
    main()
