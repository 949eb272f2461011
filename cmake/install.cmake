# The C library: header, shared library, CMake package, pkg-config file.
include(CMakePackageConfigHelpers)
set_target_properties(piquant PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
install(TARGETS piquant EXPORT piquant-targets)
install(FILES include/piquant/quant.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/piquant)
install(EXPORT piquant-targets NAMESPACE piquant:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/piquant)
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/piquant-config.cmake
     "include(\${CMAKE_CURRENT_LIST_DIR}/piquant-targets.cmake)\n")
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/piquant-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/piquant-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/piquant-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/piquant)
file(RELATIVE_PATH PIQUANT_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/piquant.pc.in piquant.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/piquant.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
