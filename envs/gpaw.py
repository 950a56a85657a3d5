# How `make dft` builds GPAW, with Debian's libxc-dev, libopenblas-dev and libfftw3-dev: serial, with FFTW.
compiler = "g++"
mpi = False
fftw = True
libraries = ["xc", "openblas", "fftw3"]
