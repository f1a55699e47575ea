"""See `recipes.variants.command`."""

from recipes.variants.command import main

if __name__ == "__main__":
    main()
